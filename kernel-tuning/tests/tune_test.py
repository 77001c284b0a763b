"""Facts about `tune`: on a copy of a host's tree with a recorded ethtool, in a network namespace, and on this kernel."""

import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent.parent
TUNE = FOLDER / "tune"
PROFILES = ("edge", "fanout", "kafka", "cassandra", "redis", "postgres", "monitoring")

ETHTOOL = r"""#!/usr/bin/env python3
import json, pathlib, sys
state_file = pathlib.Path(__file__).with_suffix(".json")
state = json.loads(state_file.read_text())
flag, nic, *rest = sys.argv[1:]
names = {"-L": "channels", "-G": "ring", "-K": "feature", "-C": "adaptive"}
if flag == "-l":
    print(f"Channel parameters for {nic}:\nPre-set maximums:\nCombined:\t8\nCurrent hardware settings:\nCombined:\t{state['channels.combined']}")
elif flag == "-g":
    print(f"Ring parameters:\nPre-set maximums:\nRX:\t2048\nTX:\t8192\nCurrent hardware settings:\nRX:\t{state['ring.rx']}\nTX:\t{state['ring.tx']}")
elif flag == "-k":
    print(f"generic-receive-offload: {state['feature.gro']}\nlarge-receive-offload: off [fixed]\ntcp-segmentation-offload: on")
elif flag == "-c":
    sys.exit(95)
else:
    state[f"{names[flag]}.{rest[0]}"] = rest[1]
    state["calls"].append(sys.argv[1:])
    state_file.write_text(json.dumps(state))
"""


def wanted_sysctls(profile):
    wanted = {}
    for name in ("60-hawser-common.conf", f"61-hawser-{profile}.conf"):
        for line in (FOLDER / "sysctl.d" / name).read_text().splitlines():
            if line and line[0] not in "#;":
                key, value = line.lstrip("-").split("=", 1)
                wanted[key.strip()] = value.strip()
    return wanted


class Fixture(unittest.TestCase):
    """A four-core host with one NIC of two queues and one SSD, everything at other values than asked."""

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        for key in wanted_sysctls("edge"):
            self.put("proc/sys/" + key.replace(".", "/"), "1")
        self.put("proc/sys/net/ipv4/tcp_mem", "1\t2\t3")
        self.put("proc/sys/fs/nr_open", "999999999")
        self.put("proc/sys/kernel/random/boot_id", "first")
        self.put("proc/meminfo", "MemTotal:       65536000 kB")
        self.put("sys/devices/system/cpu/online", "0-3")
        for core in range(4):
            self.put(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", "schedutil")
        self.put("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")
        self.put("sys/block/nvme0n1/queue/rotational", "0")
        self.put("sys/block/nvme0n1/queue/scheduler", "none mq-deadline [kyber]")
        self.put("sys/block/sda/queue/rotational", "1")
        self.put("sys/block/sda/queue/scheduler", "[bfq] none")
        for queue in ("rx-0", "rx-1"):
            self.put(f"sys/class/net/eno1/queues/{queue}/rps_cpus", "0")
            self.put(f"sys/class/net/eno1/queues/{queue}/rps_flow_cnt", "0")
        for queue in ("tx-0", "tx-1"):
            self.put(f"sys/class/net/eno1/queues/{queue}/xps_cpus", "00000000")
        self.put("sys/class/net/eno1/operstate", "up")
        for number in ("40", "41", "42"):
            self.put(f"sys/class/net/eno1/device/msi_irqs/{number}", "msix")
            self.put(f"proc/irq/{number}/smp_affinity_list", "0-3")
        self.put("proc/interrupts", "      CPU0\n 40: 1 PCI eno1\n 41: 1 PCI eno1-TxRx-0\n 42: 1 PCI eno1-TxRx-1\n")
        self.put("sys/class/net/lo/operstate", "unknown")
        self.ethtool = self.root / "ethtool"
        self.ethtool.write_text(ETHTOOL)
        self.ethtool.chmod(self.ethtool.stat().st_mode | stat.S_IXUSR)
        self.nic = {"channels.combined": "1", "ring.rx": "512", "ring.tx": "512", "feature.gro": "off", "calls": []}
        self.put("ethtool.json", json.dumps(self.nic))

    def put(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def get(self, path):
        return (self.root / path).read_text().strip()

    def tune(self, *args, code=0):
        argv = [TUNE, *args, "--root", self.root, "--ethtool", self.ethtool, "--json"]
        done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return {row["setting"]: row for row in json.loads(done.stdout)["settings"]} if done.stdout else done.stderr

    def tree(self):
        return {str(path): path.read_text() for path in self.root.rglob("*")
                if path.is_file() and "hawser-tune" not in str(path) and path.name != "ethtool.json"}

    def test_apply_then_verify_is_clean_and_a_second_apply_changes_nothing(self):
        self.tune("verify", "--profile", "edge", code=1)
        first = self.tune("apply", "--profile", "edge")
        self.assertGreater(sum(row["state"] == "changed" for row in first.values()), 30)
        again = self.tune("apply", "--profile", "edge")
        self.assertEqual({row["state"] for row in again.values()}, {"ok"})
        self.tune("verify", "--profile", "edge")

    def test_revert_puts_every_value_back_also_after_two_applies(self):
        before = self.tree()
        self.tune("apply", "--profile", "edge")
        self.tune("apply", "--profile", "edge")
        self.assertNotEqual(self.tree(), before)
        self.tune("revert")
        # The kernel prints a choice with all that there is to choose from; the fixture's files keep what is written.
        was = {"enabled": "always", "scheduler": "kyber"}
        for path, text in self.tree().items():
            name = pathlib.Path(path).name
            found = re.search(r"\[(\w+)\]", before[path])
            want = was[name] if name in was and found and "nvme" in path or name == "enabled" else before[path]
            self.assertEqual(" ".join(text.split()).lstrip("0"), " ".join(want.split()).lstrip("0"), path)
        state = json.loads(self.get("ethtool.json"))
        self.assertEqual({**self.nic, "calls": state["calls"]}, state)
        self.assertFalse((self.root / "var/lib/hawser-tune/saved.json").exists())

    def test_a_dry_run_touches_nothing(self):
        before = self.tree()
        rows = self.tune("apply", "--profile", "edge", "--dry-run")
        self.assertIn("would change", {row["state"] for row in rows.values()})
        self.assertEqual(self.tree(), before)
        self.assertFalse((self.root / "var/lib/hawser-tune").exists())

    def test_a_value_changed_by_somebody_else_is_kept_unless_forced(self):
        self.tune("apply", "--profile", "edge")
        self.put("proc/sys/net/core/somaxconn", "777")
        rows = self.tune("revert", code=1)
        self.assertEqual(rows["sysctl:net.core.somaxconn"]["state"], "kept")
        self.assertEqual(self.get("proc/sys/net/core/somaxconn"), "777")
        self.tune("revert", "--force")
        self.assertEqual(self.get("proc/sys/net/core/somaxconn"), "1")

    def test_after_a_reboot_what_is_saved_is_of_the_new_boot(self):
        self.tune("apply", "--profile", "edge")
        self.put("proc/sys/kernel/random/boot_id", "second")
        self.put("proc/sys/net/core/somaxconn", "4096")
        self.tune("apply", "--profile", "edge")
        self.tune("revert")
        self.assertEqual(self.get("proc/sys/net/core/somaxconn"), "4096")

    def test_a_higher_bound_of_the_kernel_is_kept(self):
        rows = self.tune("apply", "--profile", "edge")
        self.assertEqual(rows["sysctl:fs.nr_open"]["state"], "ok")
        self.assertEqual(self.get("proc/sys/fs/nr_open"), "999999999")

    def test_interrupts_and_queues_are_spread_over_the_cores(self):
        self.tune("apply", "--profile", "edge")
        self.assertEqual(self.get("proc/irq/40/smp_affinity_list"), "0-3", "the interrupt that is no queue's is left")
        self.assertEqual(self.get("proc/irq/41/smp_affinity_list"), "0")
        self.assertEqual(self.get("proc/irq/42/smp_affinity_list"), "1")
        self.assertEqual(self.get("sys/class/net/eno1/queues/tx-0/xps_cpus"), "5")
        self.assertEqual(self.get("sys/class/net/eno1/queues/tx-1/xps_cpus"), "a")
        self.assertEqual(self.get("sys/class/net/eno1/queues/rx-1/rps_cpus"), "f", "two queues for four cores")
        self.assertEqual(self.get("sys/class/net/eno1/queues/rx-1/rps_flow_cnt"), "524288")

    def test_the_nic_gets_no_more_than_it_offers(self):
        self.tune("apply", "--profile", "edge")
        calls = json.loads(self.get("ethtool.json"))["calls"]
        self.assertEqual(calls, [["-L", "eno1", "combined", "4"], ["-G", "eno1", "rx", "2048"],
                                 ["-G", "eno1", "tx", "4096"], ["-K", "eno1", "gro", "on"]])

    def test_disks_that_turn_are_left(self):
        self.tune("apply", "--profile", "edge")
        self.assertEqual(self.get("sys/block/nvme0n1/queue/scheduler"), "none")
        self.assertEqual(self.get("sys/block/sda/queue/scheduler"), "[bfq] none")

    def test_tcp_memory_follows_the_machine(self):
        self.tune("apply", "--profile", "edge")
        pages = 65536000 * 1024 // os.sysconf("SC_PAGE_SIZE")
        want = " ".join(str(pages * percent // 100) for percent in (15, 20, 25))
        self.assertEqual(self.get("proc/sys/net/ipv4/tcp_mem"), want)

    def test_a_missing_sysctl_is_a_failure_unless_allowed(self):
        (self.root / "proc/sys/net/core/somaxconn").unlink()
        rows = self.tune("apply", "--profile", "edge", code=1)
        self.assertEqual(rows["sysctl:net.core.somaxconn"]["state"], "missing")
        self.tune("apply", "--profile", "edge", "--allow-absent")

    def test_wrong_command_lines_are_answered_with_what_would_be_right(self):
        told = self.tune("apply", code=2)
        self.assertIn("--profile, one of edge, fanout", told)
        told = self.tune("apply", "--profile", "edge", "--nic", "eth7", code=2)
        self.assertIn("there are eno1, lo", told)

    def test_a_damaged_state_file_is_named_and_nothing_is_changed(self):
        self.put("var/lib/hawser-tune/saved.json", "{")
        before = self.tree()
        told = self.tune("apply", "--profile", "edge", code=2)
        self.assertIn("saved.json is damaged", told)
        self.assertEqual(self.tree(), before)


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("ip"), "needs root and iproute2")
class Namespace(unittest.TestCase):
    """The real kernel, in a network namespace of its own: sockets' settings and a veth with four queues."""

    def setUp(self):
        self.name = f"tune-{os.getpid()}"
        made = subprocess.run(["ip", "netns", "add", self.name], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            self.skipTest(f"no network namespace here: {made.stderr.strip()}")
        self.addCleanup(subprocess.run, ["ip", "netns", "del", self.name], check=False)
        self.inside("ip", "link", "add", "v0", "numrxqueues", "4", "numtxqueues", "4", "type", "veth", "peer", "name", "v1")
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def inside(self, *argv, code=0):
        done = subprocess.run(["ip", "netns", "exec", self.name, *argv], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def test_the_kernel_takes_the_values_and_gets_its_own_back(self):
        # A profile of what belongs to a namespace alone: what is global is not ours to change here.
        place = pathlib.Path(self.folder) / "tuning"
        shutil.copytree(FOLDER, place)
        for file in (place / "sysctl.d").glob("*.conf"):
            own = [line for line in file.read_text().splitlines() if re.match(r"-?net\.(ipv4\.(tcp_(?!mem|max_orphans)|ip_local)|core\.somaxconn)", line)]
            file.write_text("\n".join(own) + "\n")
        for file in (place / "devices.d").glob("*.ini"):
            file.write_text("[nic]\nxps = queue\nrps = when-fewer-queues\n")
        argv = [str(place / "tune"), "--profile", "edge", "--nic", "v0", "--state", f"{self.folder}/saved.json", "--allow-absent"]
        before = self.inside("sysctl", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_rmem", "net.core.somaxconn")
        self.inside(argv[0], "verify", *argv[1:], code=1)
        self.inside(argv[0], "apply", *argv[1:])
        self.inside(argv[0], "verify", *argv[1:])
        self.assertEqual(self.inside("sysctl", "-n", "net.ipv4.tcp_fin_timeout").strip(), "15")
        self.assertEqual(self.inside("sysctl", "-n", "net.core.somaxconn").strip(), "65535")
        self.inside(argv[0], "revert", *argv[3:])
        after = self.inside("sysctl", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_rmem", "net.core.somaxconn")
        self.assertEqual(after, before)


class Documents(unittest.TestCase):
    """README.md gives every value with its reason, and nothing that is not there."""

    def rows(self):
        lines = (FOLDER / "README.md").read_text().split("\n## Limits")[0].splitlines()
        return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]

    def test_every_sysctl_stands_in_the_readme_with_its_value_and_a_source(self):
        told = {(row[0], row[1]) for row in self.rows()}
        held = set()
        for profile in PROFILES:
            for key, value in wanted_sysctls(profile).items():
                held.add((key, value))
        self.assertEqual(held - told, set(), "not in README.md")
        sysctl_told = {pair for pair in told if re.match(r"(fs|kernel|vm|net)\.", pair[0])}
        self.assertEqual(sysctl_told - held, set(), "in README.md alone")
        for row in self.rows():
            self.assertEqual(len(row), 5, row)
            self.assertTrue(all(row), f"{row[0]}: a cell is empty")

    def test_every_device_setting_stands_in_the_readme(self):
        told = {row[0] for row in self.rows()}
        for file in (FOLDER / "devices.d").glob("*.ini"):
            for line in file.read_text().splitlines():
                if "=" in line and line[0] not in ";#":
                    self.assertIn(line.split("=")[0].strip(), told, file.name)


if __name__ == "__main__":
    unittest.main()
