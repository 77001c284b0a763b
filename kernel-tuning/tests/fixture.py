"""A host to try `tune` on: a copy of a tree, and programs that answer as recorded and remember what they were told."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
FOLDER = pathlib.Path(__file__).resolve().parent.parent
TUNE = FOLDER / "tune"
sys.path.insert(0, str(FOLDER))

from tuning.table import Table  # noqa: E402

TABLE = Table(FOLDER / "knobs.toml")

PROGRAM = r"""#!/usr/bin/env python3
import json, pathlib, sys
name = pathlib.Path(sys.argv[0]).name
state_file = pathlib.Path(sys.argv[0]).parent.parent / "programs.json"
state = json.loads(state_file.read_text())
args = sys.argv[1:]
def done(**changed):
    state.update(changed)
    state["calls"].append([name, *args])
    state_file.write_text(json.dumps(state))
if name == "ethtool":
    flag, nic, *rest = args
    names = {"-L": "channels", "-G": "ring", "-K": "feature", "-C": "coalesce"}
    if flag == "-l":
        print(f"Channel parameters for {nic}:\nPre-set maximums:\nRX:\t\tn/a\nCombined:\t8\nCurrent hardware settings:\nRX:\t\tn/a\nCombined:\t{state['channels.combined']}")
    elif flag == "-g":
        print(f"Ring parameters:\nPre-set maximums:\nRX:\t2048\nRX Mini:\tn/a\nTX:\t8192\nCurrent hardware settings:\nRX:\t{state['ring.rx']}\nRX Mini:\tn/a\nTX:\t{state['ring.tx']}")
    elif flag == "-k":
        print(f"tcp-segmentation-offload: on\n\ttx-tcp-segmentation: on\ngeneric-receive-offload: {state['feature.gro']}\nlarge-receive-offload: off [fixed]")
    elif flag == "-c":
        if state["offers"] == "nothing":
            sys.exit("netlink error: Operation not supported")
        adaptive = state["offers"] == "adaptive"
        print(f"Coalesce parameters for {nic}:\nAdaptive RX: {state['coalesce.adaptive-rx'] if adaptive else 'n/a'}  TX: {state['coalesce.adaptive-tx'] if adaptive else 'n/a'}")
        print(f"stats-block-usecs: n/a\n\nrx-usecs: {state['coalesce.rx-usecs']}\nrx-frames: 1\n")
    elif rest[0] in state["refuses"]:
        sys.exit("netlink error: Operation not supported")
    elif rest[0] in state["ignores"]:
        done()
    else:
        done(**{f"{names[flag]}.{rest[0]}": rest[1]})
elif name == "tc":
    if args[1] == "show":
        kind = state["qdisc"]
        if kind.startswith("mq/"):
            print("qdisc mq 8000: dev eno1 root ")
            for queue in (1, 2):
                print(f"qdisc {kind[3:]} 0: dev eno1 parent 8000:{queue} limit 10000p")
        else:
            print(f"qdisc {kind} 0: dev eno1 root refcnt 2")
    elif "no_fq" in state and args[-1] == "fq":
        sys.exit("Error: Specified qdisc kind is unknown.")
    elif args[4] == "root":
        done(qdisc="mq/" + state["default"] if args[-1] == "mq" else args[-1])
    else:
        done(qdisc="mq/" + args[-1])
elif name == "nft":
    print(state["ruleset"])
elif name == "modprobe":
    if args[0] in state["no_module"]:
        sys.exit(f"modprobe: FATAL: Module {args[0]} not found")
    done()
    (pathlib.Path(sys.argv[0]).parent.parent / "sys/module" / args[0]).mkdir(parents=True, exist_ok=True)
elif name == "systemctl":
    comm = pathlib.Path(sys.argv[0]).parent.parent / "proc/321/comm"
    comm.write_text("gone" if args[0] == "stop" else "irqbalance")
    done()
"""

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max open files            {nofile:<20} {nofile:<20} files
Max locked memory         unlimited            unlimited            bytes
Max core file size        0                    unlimited            bytes
"""


class Fixture(unittest.TestCase):
    """A four-core host with one NIC of two queues and one SSD, everything at other values than asked."""

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        for knob in TABLE.knobs:
            if knob.kind == "sysctl":
                self.put("proc/sys/" + knob.key.replace(".", "/"), "3")
        self.put("proc/sys/net/ipv4/tcp_mem", "1\t2\t3")
        self.put("proc/sys/fs/nr_open", "999999999")
        self.put("proc/sys/kernel/random/boot_id", "first")
        self.put("proc/sys/net/ipv4/tcp_available_congestion_control", "reno cubic")
        self.put("proc/meminfo", "MemTotal:       65536000 kB\nMemFree:  1 kB\nHugepagesize:       2048 kB\n")
        self.put_memory_and_processors()
        self.put_network()
        self.put_services()
        self.told = {"channels.combined": "1", "ring.rx": "512", "ring.tx": "512", "feature.gro": "off", "offers": "nothing",
                     "coalesce.adaptive-rx": "off", "coalesce.adaptive-tx": "off", "coalesce.rx-usecs": "0", "qdisc": "pfifo_fast",
                     "default": "fq_codel", "ruleset": "tcp dport 443 notrack", "no_module": [], "refuses": [], "ignores": [], "calls": []}
        self.put("programs.json", json.dumps(self.told))
        for name in ("ethtool", "tc", "nft", "modprobe", "systemctl"):
            self.put(f"tools/{name}", PROGRAM)
            file = self.root / "tools" / name
            file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def put_memory_and_processors(self):
        self.put("sys/devices/system/cpu/online", "0-3")
        for core in range(4):
            folder = f"sys/devices/system/cpu/cpu{core}"
            self.put(f"{folder}/cpufreq/scaling_governor", "schedutil")
            for state, latency in enumerate((0, 2, 133)):
                self.put(f"{folder}/cpuidle/state{state}/latency", str(latency))
                self.put(f"{folder}/cpuidle/state{state}/disable", "0")
        self.put("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")
        self.put("sys/block/nvme0n1/queue/rotational", "0")
        self.put("sys/block/nvme0n1/queue/scheduler", "none mq-deadline [kyber]")
        self.put("sys/block/sda/queue/rotational", "1")
        self.put("sys/block/sda/queue/scheduler", "[bfq] none")

    def put_network(self):
        nic = "sys/class/net/eno1"
        for queue in ("rx-0", "rx-1"):
            self.put(f"{nic}/queues/{queue}/rps_cpus", "0")
            self.put(f"{nic}/queues/{queue}/rps_flow_cnt", "0")
        for queue in ("tx-0", "tx-1"):
            self.put(f"{nic}/queues/{queue}/xps_cpus", "00000000")
        for name in ("napi_defer_hard_irqs", "gro_flush_timeout"):
            self.put(f"{nic}/{name}", "0")
        self.put(f"{nic}/threaded", "1")
        self.put(f"{nic}/operstate", "up")
        for number in ("40", "41", "42"):
            self.put(f"{nic}/device/msi_irqs/{number}", "msix")
            self.put(f"proc/irq/{number}/smp_affinity_list", "0-3")
        self.put("proc/interrupts", "      CPU0\n 40: 1 PCI eno1\n 41: 1 PCI eno1-TxRx-0\n 42: 1 PCI eno1-TxRx-1\n")
        self.put("sys/class/net/lo/operstate", "unknown")

    def put_services(self):
        self.put("proc/321/comm", "irqbalance\n")
        self.put("proc/400/comm", "hawser-gateway\n")
        self.put("proc/400/limits", LIMITS.format(nofile=4194304))
        self.put("proc/400/oom_score_adj", "-900\n")
        self.put("proc/400/stat", "400 (hawser gateway) S 1 400 400 0 -1 4194560 1 0 0 0 1 1 0 0 15 -5 9 0 100\n")
        self.put("etc/security/limits.d/60-hawser.conf", (FOLDER / "limits.d/60-hawser.conf").read_text())

    def put(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def get(self, path):
        return (self.root / path).read_text().strip()

    def tell(self, **changed):
        """Makes the programs answer otherwise."""
        self.told.update(changed)
        self.put("programs.json", json.dumps(self.told))

    def calls(self, name):
        return [call[1:] for call in json.loads(self.get("programs.json"))["calls"] if call[0] == name]

    def run_tune(self, *args, code=0, tune=TUNE):
        argv = [tune, *args, "--root", self.root, "--tools", self.root / "tools"]
        done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def tune(self, *args, code=0):
        """What `tune --json` says of each setting; where it says nothing, its complaint."""
        done = self.run_tune(*args, "--json", code=code)
        return {row["setting"]: row for row in json.loads(done.stdout)["settings"]} if done.stdout else done.stderr

    def text(self, *args, code=0):
        return self.run_tune(*args, code=code).stdout

    def tree(self):
        return {str(path.relative_to(self.root)): path.read_text() for path in self.root.rglob("*")
                if path.is_file() and "hawser-tune" not in str(path) and path.name != "programs.json"}


def as_root_with(*programs):
    return os.geteuid() == 0 and all(shutil.which(program) for program in programs)
