"""Facts about `tune` on a copy of a host's tree, with programs that answer as recorded."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

from fixture import FOLDER, LIMITS, TABLE, Fixture


class ApplyAndRevert(Fixture):
    def test_apply_then_verify_is_clean_and_a_second_apply_changes_nothing(self):
        for profile in TABLE.profiles:
            with self.subTest(profile):
                self.tune("verify", "--profile", profile, code=1)
                first = self.tune("apply", "--profile", profile)
                self.assertGreater(sum(row["state"] == "changed" for row in first.values()), 25)
                before = self.tree()
                again = self.tune("apply", "--profile", profile)
                self.assertEqual({row["setting"] for row in again.values() if row["state"] not in ("ok", "absent")}, set())
                self.assertEqual(self.tree(), before)
                self.tune("verify", "--profile", profile)
                self.tune("revert")

    def test_revert_puts_every_value_back_also_after_two_applies(self):
        before, told = self.tree(), dict(self.told)
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
        self.assertEqual({**json.loads(self.get("programs.json")), "calls": []}, told)
        self.assertFalse((self.root / "var/lib/hawser-tune/saved.json").exists())

    def test_a_value_changed_by_somebody_else_is_kept_unless_forced(self):
        self.tune("apply", "--profile", "edge")
        self.put("proc/sys/net/core/somaxconn", "777")
        rows = self.tune("revert", code=1)
        self.assertEqual(rows["sysctl:net.core.somaxconn"]["state"], "kept")
        self.assertEqual(self.get("proc/sys/net/core/somaxconn"), "777")
        self.tune("revert", "--force")
        self.assertEqual(self.get("proc/sys/net/core/somaxconn"), "3")

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

    def test_a_bound_of_dirty_pages_goes_back_to_the_form_in_which_it_was(self):
        # 0 bytes stand for "the ratio holds", and cannot be written.
        for key, value in (("bytes", "0"), ("ratio", "20"), ("background_bytes", "0"), ("background_ratio", "10")):
            self.put(f"proc/sys/vm/dirty_{key}", value)
        rows = self.tune("apply", "--profile", "postgres")
        self.assertEqual(rows["sysctl:vm.dirty_bytes"]["have"], "dirty_ratio 20")
        self.assertEqual(self.get("proc/sys/vm/dirty_bytes"), "536870912")
        self.put("proc/sys/vm/dirty_ratio", "0")
        self.assertIn("echo 20 > ", self.tune("revert", "--dry-run")["sysctl:vm.dirty_bytes"]["command"])
        self.tune("revert")
        self.assertEqual(self.get("proc/sys/vm/dirty_ratio"), "20")

    def test_what_the_kernel_refuses_is_absent_from_then_on(self):
        self.tell(no_fq=True, no_module=["sch_fq"])
        for _ in range(2):
            rows = self.tune("apply", "--profile", "edge")
            self.assertEqual(rows["nic:eno1.qdisc"]["state"], "absent")
            self.assertIn("kind is unknown", rows["nic:eno1.qdisc"]["note"])
            self.assertEqual(rows["module:sch_fq"]["state"], "absent")
        rows = self.tune("verify", "--profile", "edge")
        self.assertEqual(rows["nic:eno1.qdisc"]["state"], "absent")
        self.assertEqual(self.tune("revert")["sysctl:net.core.somaxconn"]["state"], "changed")

    def test_a_missing_sysctl_is_a_failure_unless_allowed(self):
        (self.root / "proc/sys/net/core/somaxconn").unlink()
        rows = self.tune("apply", "--profile", "edge", code=1)
        self.assertEqual(rows["sysctl:net.core.somaxconn"]["state"], "missing")
        self.tune("apply", "--profile", "edge", "--allow-absent")

    def test_a_damaged_state_file_is_named_and_nothing_is_changed(self):
        for damaged, word in (("{", "is damaged"), ('{"boot": "first", "values": {"x": {"was": "1"}}}', "is not understood")):
            self.put("var/lib/hawser-tune/saved.json", damaged)
            before = self.tree()
            told = self.tune("apply" if word == "is damaged" else "revert", *(["--profile", "edge"] if word == "is damaged" else []), code=2)
            self.assertIn(word, told)
            self.assertEqual(self.tree(), before)


class Devices(Fixture):
    def test_interrupts_and_queues_are_spread_over_the_cores(self):
        self.tune("apply", "--profile", "edge")
        self.assertEqual(self.get("proc/irq/40/smp_affinity_list"), "0-3", "the interrupt that is no queue's is left")
        self.assertEqual(self.get("proc/irq/41/smp_affinity_list"), "0")
        self.assertEqual(self.get("proc/irq/42/smp_affinity_list"), "1")
        self.assertEqual(self.get("sys/class/net/eno1/queues/tx-0/xps_cpus"), "5")
        self.assertEqual(self.get("sys/class/net/eno1/queues/tx-1/xps_cpus"), "a")
        self.assertEqual(self.get("sys/class/net/eno1/queues/rx-1/rps_cpus"), "f", "two queues for four cores")
        self.assertEqual(self.get("sys/class/net/eno1/queues/rx-1/rps_flow_cnt"), "524288")

    def test_cores_of_the_device_s_own_node_come_first(self):
        self.put("sys/class/net/eno1/device/numa_node", "1\n")
        self.put("sys/devices/system/node/node1/cpulist", "2-3\n")
        self.tune("apply", "--profile", "edge")
        self.assertEqual([self.get(f"proc/irq/{number}/smp_affinity_list") for number in (41, 42)], ["2", "3"])
        self.assertEqual(self.get("sys/class/net/eno1/queues/tx-0/xps_cpus"), "5", "core 2, and then core 0")

    def test_interrupts_of_a_virtio_device_are_those_of_the_device_above_it(self):
        net = self.root / "sys/class/net/eno1/device"
        (self.root / "sys/devices/pci/virtio0").mkdir(parents=True)
        (net / "msi_irqs").rename(self.root / "sys/devices/pci/msi_irqs")
        net.rmdir()
        net.symlink_to(self.root / "sys/devices/pci/virtio0")
        self.put("proc/interrupts", "      CPU0\n 40: 1 PCI virtio0-config\n 42: 1 PCI virtio0-output.1\n 41: 1 PCI virtio0-input.1\n")
        self.tune("apply", "--profile", "edge")
        self.assertEqual([self.get(f"proc/irq/{number}/smp_affinity_list") for number in (40, 41, 42)], ["0-3", "1", "1"], "one queue, one core")

    def test_the_nic_gets_no_more_than_it_offers(self):
        self.tune("apply", "--profile", "edge")
        self.assertEqual(self.calls("ethtool"), [["-L", "eno1", "combined", "4"], ["-G", "eno1", "rx", "2048"],
                                                 ["-G", "eno1", "tx", "4096"], ["-K", "eno1", "gro", "on"]])

    def test_interrupts_are_coalesced_by_the_best_that_the_device_offers(self):
        wanted = {"adaptive": ({"adaptive-rx": "on", "adaptive-tx": "on", "rx-usecs": "0"}, "0", "0"),
                  "fixed": ({"adaptive-rx": "off", "adaptive-tx": "off", "rx-usecs": "16"}, "0", "0"),
                  "nothing": ({"adaptive-rx": "off", "adaptive-tx": "off", "rx-usecs": "0"}, "20000", "10")}
        for offers, (device, timeout, polls) in wanted.items():
            with self.subTest(offers):
                self.tell(offers=offers)
                self.tune("apply", "--profile", "kafka")
                self.tune("verify", "--profile", "kafka")
                state = json.loads(self.get("programs.json"))
                self.assertEqual({key: state[f"coalesce.{key}"] for key in device}, device)
                self.assertEqual(self.get("sys/class/net/eno1/gro_flush_timeout"), timeout)
                self.assertEqual(self.get("sys/class/net/eno1/napi_defer_hard_irqs"), polls)
                self.tune("revert")

    def test_a_device_that_shows_what_it_does_not_do_is_coalesced_by_the_next_best(self):
        # As virtio-net does with ethtool 6.1: one is ignored, the other refused.
        self.tell(offers="adaptive", ignores=["adaptive-rx", "adaptive-tx"])
        rows = self.tune("apply", "--profile", "kafka")
        self.assertEqual((rows["nic:eno1.adaptive_rx"]["state"], rows["nic:eno1.adaptive_rx"]["note"]), ("absent", "the device made off of it"))
        self.assertEqual(rows["nic:eno1.rx_usecs"]["state"], "changed")
        self.assertEqual(self.get("sys/class/net/eno1/gro_flush_timeout"), "0")
        self.tune("revert")
        self.tell(ignores=["adaptive-rx"], refuses=["rx-usecs"])
        rows = self.tune("apply", "--profile", "kafka")
        self.assertEqual((rows["nic:eno1.rx_usecs"]["state"], rows["nic:eno1.gro_flush_timeout"]["state"]), ("absent", "changed"))
        self.tune("verify", "--profile", "kafka")
        again = self.tune("apply", "--profile", "kafka")
        self.assertEqual({row["state"] for row in again.values()}, {"ok", "absent"})
        self.tune("revert")
        self.assertEqual(self.get("sys/class/net/eno1/gro_flush_timeout"), "0")

    def test_fq_is_put_below_every_queue_of_a_device_that_is_up(self):
        rows = self.tune("apply", "--profile", "edge")
        self.assertEqual(rows["nic:eno1.qdisc"]["want"], "mq/fq")
        self.assertEqual([call[2:] for call in self.calls("tc")], [
            ["dev", "eno1", "root", "handle", "8000:", "mq"], ["dev", "eno1", "parent", "8000:1", "fq"], ["dev", "eno1", "parent", "8000:2", "fq"]])
        self.tune("revert")
        self.assertEqual(self.calls("tc")[-1], ["qdisc", "replace", "dev", "eno1", "root", "pfifo_fast"])

    def test_disks_that_turn_are_left(self):
        self.tune("apply", "--profile", "edge")
        self.assertEqual(self.get("sys/block/nvme0n1/queue/scheduler"), "none")
        self.assertEqual(self.get("sys/block/sda/queue/scheduler"), "[bfq] none")

    def test_idle_states_that_are_slow_to_leave_are_turned_off(self):
        self.tune("apply", "--profile", "edge")
        self.assertEqual([self.get(f"sys/devices/system/cpu/cpu3/cpuidle/state{state}/disable") for state in range(3)], ["0", "0", "1"])

    def test_shares_of_memory_follow_the_machine(self):
        self.tune("apply", "--profile", "edge")
        pages = 65536000 * 1024 // os.sysconf("SC_PAGE_SIZE")
        want = " ".join(str(pages * percent // 100) for percent in (15, 20, 25))
        self.assertEqual(self.get("proc/sys/net/ipv4/tcp_mem"), want)
        self.assertEqual(self.get("proc/sys/vm/nr_hugepages"), "0")
        self.tune("apply", "--profile", "postgres")
        self.assertEqual(self.get("proc/sys/vm/nr_hugepages"), str(65536000 // 2048 * 27 // 100))


class Services(Fixture):
    def test_irqbalance_is_stopped_and_started_again(self):
        self.tune("apply", "--profile", "edge")
        self.tune("revert")
        self.assertEqual(self.calls("systemctl"), [["stop", "irqbalance.service"], ["start", "irqbalance.service"]])

    def test_modules_are_loaded_before_their_settings(self):
        (self.root / "proc/sys/net/netfilter/nf_conntrack_max").unlink()
        rows = self.tune("apply", "--profile", "edge")
        self.assertEqual(self.calls("modprobe"), [["tcp_bbr"], ["sch_fq"], ["nf_conntrack"]])
        self.assertLess(list(rows).index("module:nf_conntrack"), list(rows).index("sysctl:net.netfilter.nf_conntrack_max"))

    def test_what_others_set_is_left_by_apply_and_told_by_verify(self):
        self.put("proc/400/limits", LIMITS.format(nofile=1024))
        self.put("etc/security/limits.d/60-hawser.conf", "root soft nofile 1048576\nroot hard nofile 99\n")
        self.tell(ruleset="ct state established,related accept")
        rows = self.tune("apply", "--profile", "edge")
        off = ("unit:hawser-gateway.LimitNOFILE", "limit:root.nofile", "limit:hawser.nofile", "firewall:notrack")
        self.assertEqual({name: rows[name]["state"] for name in off}, dict.fromkeys(off, "left"))
        rows = self.tune("verify", "--profile", "edge", code=1)
        self.assertEqual({name: row["have"] for name, row in rows.items() if row["state"] == "off"}, {
            "unit:hawser-gateway.LimitNOFILE": "1024", "limit:root.nofile": "soft 1048576, hard 99", "limit:hawser.nofile": "none",
            "limit:hawser.memlock": "none", "firewall:notrack": "tracked"})

    def test_a_service_that_does_not_run_here_is_no_failure(self):
        self.put("proc/400/comm", "other")
        self.tune("apply", "--profile", "edge")
        rows = self.tune("verify", "--profile", "edge")
        self.assertEqual(rows["unit:hawser-gateway.Nice"]["state"], "absent")

    def test_a_copy_of_a_tree_never_runs_a_program_of_this_machine(self):
        argv = [str(FOLDER / "tune"), "apply", "--profile", "edge", "--root", str(self.root), "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        rows = {row["setting"]: row for row in json.loads(done.stdout)["settings"]}
        self.assertEqual(rows["process:irqbalance"]["state"], "failed")
        self.assertIn("not installed", rows["process:irqbalance"]["note"])
        self.assertEqual(rows["nic:eno1.qdisc"]["state"], "absent")
        self.assertEqual(rows["firewall:notrack"]["state"], "absent")


class Words(Fixture):
    def test_dry_runs_change_nothing(self):
        before = self.tree()
        rows = self.tune("apply", "--profile", "edge", "--dry-run")
        self.assertIn("would change", {row["state"] for row in rows.values()})
        self.text("apply", "--profile", "edge", "--print-shell")
        told = self.text("verify", "--profile", "edge", "--dry-run", code=1)
        self.assertIn("changes nothing, with --dry-run and without", told)
        self.assertEqual(self.tree(), before)
        self.assertFalse((self.root / "var/lib/hawser-tune").exists())
        self.tune("apply", "--profile", "edge")
        applied, saved = self.tree(), self.get("var/lib/hawser-tune/saved.json")
        rows = self.tune("revert", "--dry-run")
        self.assertIn("would change", {row["state"] for row in rows.values()})
        self.assertEqual((self.tree(), self.get("var/lib/hawser-tune/saved.json")), (applied, saved))

    def test_what_a_dry_run_prints_does_what_apply_and_revert_do(self):
        before = self.tree()
        script = self.text("apply", "--profile", "edge", "--dry-run")
        subprocess.run(["sh", "-eu"], input=script, text=True, check=True, capture_output=True)
        self.tune("verify", "--profile", "edge")
        by_hand = self.tree()
        self.assertNotEqual(by_hand, before)
        for path, text in before.items():
            self.put(path, text)
        self.tell()
        shutil.rmtree(self.root / "sys/module")
        self.tune("apply", "--profile", "edge")
        clean = lambda tree: {path: text.strip() for path, text in tree.items()}
        self.assertEqual(clean(by_hand), clean(self.tree()))
        script = self.text("revert", "--dry-run")
        subprocess.run(["sh", "-eu"], input=script, text=True, check=True, capture_output=True)
        self.assertEqual({row["state"] for row in self.tune("revert", "--dry-run").values()}, {"ok"})

    def test_a_script_for_this_host_holds_every_knob_also_where_it_is_so_already(self):
        self.tune("apply", "--profile", "edge")
        script = self.text("apply", "--profile", "edge", "--print-shell")
        for word in ("somaxconn", "-L eno1 combined 4", "parent 8000:2 fq", "rps_cpus", "xps_cpus", "irq/41/smp_affinity_list", "gro_flush_timeout",
                     "rps_flow_cnt", "nr_hugepages", "numa_balancing", "cpuidle/state2/disable", "scaling_governor", "stop irqbalance", "modprobe sch_fq"):
            self.assertTrue([line for line in script.splitlines() if word in line and not line.startswith("#")], word)
        self.assertFalse([line for line in script.splitlines() if "restart" in line and not line.startswith("#")], "it sets what apply sets, no more")
        before = self.tree()
        subprocess.run(["sh", "-eu"], input=script, text=True, check=True, capture_output=True)
        clean = lambda tree: {path: text.strip() for path, text in tree.items()}
        self.assertEqual(clean(self.tree()), clean(before))

    def test_verify_explains_every_knob_that_is_off(self):
        told = self.text("verify", "--profile", "edge", code=1)
        rows = self.tune("verify", "--profile", "edge", code=1)
        off = {name: row for name, row in rows.items() if row["state"] == "off"}
        self.assertGreater(len(off), 40)
        for name, row in off.items():
            self.assertIn(f"         off  {name}: asked {row['want']}, is {row['have']}", told)
            self.assertIn(f"set   {row['command']}\n", told)
            for column in ("why", "risk", "cost", "verify", "source", "unit"):
                self.assertIn(row["knob"][column], told, name)
        self.assertIn("(measured: NUMBERS.md, memory per idle connection)", told)
        self.assertEqual(told.count("RFS's table per queue"), 1, "one knob of several queues is explained once")

    def test_lines_of_verify_are_as_hawser_host_reads_them(self):
        told = self.text("verify", "--profile", "edge", code=1)
        for line in told.splitlines():
            self.assertTrue(line.split(), "a blank line")
            if line.startswith(" " * 14):
                self.assertIn(line.split()[0], ("why", "cost", "risk", "see", "set"))

    def test_wrong_command_lines_are_answered_with_what_would_be_right(self):
        told = self.tune("apply", code=2)
        self.assertIn("--profile, one of edge, fanout", told)
        told = self.tune("apply", "--profile", "edge", "--nic", "eth7", code=2)
        self.assertIn("there are eno1, lo", told)
        told = self.tune("verify", "--profile", "edge", "--print-shell", code=2)
        self.assertIn("--print-shell is for apply", told)


if __name__ == "__main__":
    unittest.main()
