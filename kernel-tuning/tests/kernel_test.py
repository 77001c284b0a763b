"""Facts about `tune` on the kernel that runs here: in a network namespace of its own, and, where HAWSER_TUNE_WHOLE=1 allows
it, on the settings of the whole machine. Everything is put back, also when a test fails."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from fixture import FOLDER, TABLE, as_root_with

# What belongs to a network namespace alone.
OWN_SYSCTL = re.compile(r"net\.(ipv4\.(tcp_(?!mem|max_orphans)|ip_local)|core\.somaxconn)")
OWN_NIC = {"xps", "rps", "gro_flush_timeout", "napi_defer_hard_irqs", "threaded", "qdisc", "tso", "gro"}
# These interrupt a link, or would take memory or promises of it from what else runs here.
NOT_HERE = {"channels", "ring_rx", "ring_tx", "gro", "lro", "tso", "adaptive_rx", "adaptive_tx", "rx_usecs", "qdisc",
            "vm.overcommit_memory", "vm.overcommit_ratio"}


def tune_with(test, wanted, values=()):
    """A copy of `tune` whose table has only the knobs that are wanted, some with another value."""
    place = pathlib.Path(tempfile.mkdtemp())
    test.addCleanup(shutil.rmtree, place)
    folder = shutil.copytree(FOLDER, place / "tuning")
    head, *blocks = (folder / "knobs.toml").read_text().split("[[knob]]\n")
    kept = []
    for knob, block in zip(TABLE.knobs, blocks, strict=True):
        if wanted(knob):
            value = dict(values).get(knob.key, knob.value)
            kept.append(block.replace(f'value = "{knob.value}"', f'value = "{value}"', 1))
    (folder / "knobs.toml").write_text("[[knob]]\n".join([head, *kept]))
    return folder / "tune"


@unittest.skipUnless(as_root_with("ip"), "needs root and iproute2")
class Namespace(unittest.TestCase):
    """The real kernel, in a network namespace of its own: sockets' settings and a veth with four queues."""

    def setUp(self):
        self.name = f"tune-{os.getpid()}"
        made = subprocess.run(["ip", "netns", "add", self.name], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            self.skipTest(f"no network namespace here: {made.stderr.strip()}")
        self.addCleanup(subprocess.run, ["ip", "netns", "del", self.name], check=False)
        self.inside("ip", "link", "add", "v0", "numrxqueues", "4", "numtxqueues", "4", "type", "veth", "peer", "name", "v1")
        for nic in ("v0", "v1"):
            self.inside("ip", "link", "set", nic, "up")
        # Not every kernel has fq; this one is in all.
        self.program = tune_with(self, lambda knob: (knob.kind == "sysctl" and OWN_SYSCTL.match(knob.key)) or (knob.kind == "nic" and knob.key in OWN_NIC),
                                 {"qdisc": "pfifo", "napi_defer_hard_irqs": "7"})
        self.args = ["--profile", "edge", "--nic", "v0", "--state", str(self.program.parent / "saved.json"), "--allow-absent"]

    def inside(self, *argv, code=0, told=None):
        done = subprocess.run(["ip", "netns", "exec", self.name, *argv], input=told, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def tune(self, what, *more, code=0):
        return self.inside(str(self.program), what, *self.args, *more, code=code)

    def found(self):
        rows = json.loads(self.tune("list", "--json"))["settings"]
        return {row["setting"]: row["have"] for row in rows}

    def test_the_kernel_takes_the_values_and_gets_its_own_back(self):
        before = self.found()
        self.assertIn("sysctl:net.ipv4.tcp_rmem", before)
        self.assertIn("xps:v0.tx-3", before)
        told = self.tune("verify", code=1)
        self.assertIn("off  sysctl:net.core.somaxconn: asked 65535, is ", told)
        self.assertIn("set   sysctl -w net.core.somaxconn=65535", told)
        self.tune("apply")
        self.tune("verify")
        self.assertEqual(self.inside("sysctl", "-n", "net.ipv4.tcp_fin_timeout").strip(), "15")
        self.assertEqual(self.inside("sysctl", "-n", "net.core.somaxconn").strip(), "65535")
        self.assertEqual(self.inside("cat", "/sys/class/net/v0/napi_defer_hard_irqs").strip(), "7")
        self.assertEqual(len(re.findall(r"qdisc pfifo \S+ parent 8000:", self.inside("tc", "qdisc", "show", "dev", "v0"))), 4)
        self.assertNotIn("changed", self.tune("apply"))
        self.tune("revert")
        self.assertEqual(self.found(), before)

    def test_the_commands_of_dry_runs_do_the_same(self):
        before = self.found()
        script = self.tune("apply", "--dry-run")
        self.assertEqual(self.found(), before)
        self.inside("sh", "-eu", told=script)
        self.tune("verify")
        self.assertNotIn("sysctl -w", self.tune("apply", "--dry-run"))

    def test_the_commands_of_a_dry_run_of_revert_put_all_back(self):
        before = self.found()
        self.tune("apply")
        script = self.tune("revert", "--dry-run")
        self.assertNotEqual(self.found(), before)
        self.inside("sh", "-eu", told=script)
        self.assertEqual(self.found(), before)


@unittest.skipUnless(os.environ.get("HAWSER_TUNE_WHOLE") == "1" and as_root_with("ip"), "changes the whole machine for a moment: HAWSER_TUNE_WHOLE=1, as root")
class Machine(unittest.TestCase):
    """Settings of the whole machine, and of its own devices as far as their link stays up."""

    def run_tune(self, *args, code=0):
        done = subprocess.run([str(self.program), *args, "--state", str(self.program.parent / "saved.json")], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def rows(self, what, profile):
        said = self.run_tune(what, "--profile", profile, "--allow-absent", "--json")
        return {row["setting"]: row for row in json.loads(said)["settings"]}

    def test_every_profile_is_taken_and_given_back(self):
        # A smaller share of huge pages; and every idle state that has any latency.
        values = {"vm.nr_hugepages": "1%", "idle_latency_max": "0"}
        for profile in TABLE.profiles:
            with self.subTest(profile):
                self.program = tune_with(self, lambda knob: knob.key not in NOT_HERE and knob.kind not in ("unit", "limit", "firewall", "process"),
                                         {key: value for key, value in values.items() if key != "vm.nr_hugepages" or profile == "postgres"})
                before = {name: row["have"] for name, row in self.rows("list", profile).items()}
                try:
                    applied = self.rows("apply", profile)
                    self.assertGreater(sum(row["state"] == "changed" for row in applied.values()), 10)
                    again = self.rows("apply", profile)
                    self.assertEqual({row["state"] for row in again.values()} - {"ok", "absent"}, set())
                    self.run_tune("verify", "--profile", profile, "--allow-absent")
                finally:
                    self.run_tune("revert", "--force")
                after = {name: row["have"] for name, row in self.rows("list", profile).items()}
                self.assertEqual(after, before)
                print(f"\n{profile}: " + ", ".join(f"{sum(row['state'] == state for row in applied.values())} {state}" for state in ("changed", "ok", "absent")))
                print("  absent: " + "; ".join(f"{name} ({row['note']})" for name, row in applied.items() if row["state"] == "absent"))


if __name__ == "__main__":
    unittest.main()
