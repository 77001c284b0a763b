"""Where settings live: this machine, or a copy of its tree."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess

from .table import Fault

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROGRAM_TIMEOUT_S = 30


def words(value):
    return " ".join(str(value).split())


class Host:
    """A tree of /proc, /sys and /etc, and the programs that change what has no file.

    Below another root than `/`, only programs of `tools` are run: a copy of a tree must not change this machine.
    """

    def __init__(self, root="/", tools=None):
        self.root = pathlib.Path(root)
        self.tools = pathlib.Path(tools) if tools else None

    def at(self, path):
        return self.root / path.lstrip("/")

    def text(self, path, default=""):
        try:
            return self.at(path).read_text()
        except OSError:
            return default

    def program(self, name):
        """Path of a program, or None where there is none to be run."""
        if self.tools and (self.tools / name).exists():
            return str(self.tools / name)
        if self.root != pathlib.Path("/"):
            return None
        return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

    def typed(self, name, *args):
        """What a person would type to run it."""
        own = self.tools and (self.tools / name).exists()
        return shlex.join([str(self.tools / name) if own else name, *args])

    def ask(self, name, *args):
        """What a program printed, or None where it is not there or failed."""
        program = self.program(name)
        if not program:
            return None
        try:
            done = subprocess.run([program, *args], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    def do(self, name, *args):
        """Runs a program that changes something; OSError with its words where it fails."""
        program = self.program(name)
        if not program:
            raise OSError(f"{name} is not installed")
        try:
            done = subprocess.run([program, *args], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{name} did not end within {PROGRAM_TIMEOUT_S} s") from error
        # 80 is ethtool's "was so already" on some versions.
        if done.returncode not in (0, 80):
            raise OSError(words(done.stderr) or f"{name} ended with {done.returncode}")

    def cores(self):
        return core_list(self.text("/sys/devices/system/cpu/online", "0"))

    def cores_near(self, nic):
        """All cores, those of the device's own NUMA node first."""
        node = words(self.text(f"/sys/class/net/{nic}/device/numa_node", "-1"))
        local = set(core_list(self.text(f"/sys/devices/system/node/node{node}/cpulist")))
        return sorted(self.cores(), key=lambda core: (core not in local, core))

    def memory_bytes(self):
        return self.meminfo("MemTotal")

    def meminfo(self, name):
        found = re.search(rf"^{name}:\s+(\d+) kB", self.text("/proc/meminfo"), re.M)
        return int(found.group(1)) * 1024 if found else 0

    def nics(self, named):
        """Those named, or every one that is a device (and not a bridge, a tunnel or a veth) and is up."""
        net = self.at("/sys/class/net")
        present = sorted(entry.name for entry in net.iterdir()) if net.is_dir() else []
        if named:
            for nic in named:
                if nic not in present:
                    raise Fault(f"--nic {nic}: there is no such device; there are {', '.join(present)}")
            return named
        up = lambda nic: words(self.text(f"/sys/class/net/{nic}/operstate")) != "down"
        return [nic for nic in present if (net / nic / "device").exists() and up(nic)]

    def queues(self, nic, way):
        folder = self.at(f"/sys/class/net/{nic}/queues")
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        return sorted((name for name in names if name.startswith(way)), key=lambda name: int(name.split("-")[1]))

    def interrupts(self, nic):
        """Interrupts of a device's queues as (number, queue), in the order of the queues."""
        device = self.at(f"/sys/class/net/{nic}/device")
        # Interrupts of a virtio device belong to the PCI device above it.
        folders = [folder for folder in (device / "msi_irqs", device / ".." / "msi_irqs") if folder.is_dir()]
        own = {entry.name for entry in folders[0].iterdir()} if folders else set()
        found = []
        for line in self.text("/proc/interrupts").splitlines():
            number, _, rest = line.strip().partition(":")
            if number in own and re.search(r"(rx|tx|input|output|comp|queue|-\d+$)", rest.split()[-1], re.I):
                queue = re.search(r"(\d+)$", rest.split()[-1].split("@")[0])
                found.append((number, int(queue.group(1)) if queue else len(found)))
        return sorted(found, key=lambda pair: (pair[1], int(pair[0])))

    def processes(self, name):
        """Folders below /proc of the processes of that name."""
        folders = sorted(self.at("/proc").glob("[0-9]*/comm"))
        out = []
        for comm in folders:
            try:
                if comm.read_text().strip() == name[:15]:
                    out.append(comm.parent)
            except OSError:
                # It ended while we looked.
                continue
        return out


def core_list(text):
    """`0-3,8` as numbers."""
    out = []
    for part in words(text).split(","):
        low, _, high = part.partition("-")
        if low:
            out.extend(range(int(low), int(high or low) + 1))
    return out


def mask_text(mask):
    """A set of cores as the kernel wants it: hexadecimal, commas between groups of 32."""
    groups = []
    while True:
        groups.append(f"{mask & 0xFFFFFFFF:x}" if mask >> 32 == 0 else f"{mask & 0xFFFFFFFF:08x}")
        mask >>= 32
        if mask == 0:
            return ",".join(reversed(groups))
