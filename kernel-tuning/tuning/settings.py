"""One value of one host: how it is read, written, compared, and what a person would type to set it."""

import re
import shlex

from .host import mask_text, words
from .table import Fault


class Setting:
    """A value that a knob asks of this host. `settable`: apply sets it. `remembered`: revert puts it back."""

    settable = True
    remembered = True

    def __init__(self, host, kind, name, want, knob=None, **how):
        self.host, self.kind, self.name, self.want, self.knob, self.how = host, kind, name, words(want), knob, how

    @property
    def id(self):
        return f"{self.kind}:{self.name}"

    @property
    def forgiven(self):
        """Whether a host that lacks it is as good: devices differ, the kernel's settings do not."""
        return self.kind != "sysctl" or bool(self.knob and self.knob.optional)

    def read(self):
        """The value as it is. FileNotFoundError where this host has none, with the reason."""
        raise NotImplementedError

    def write(self, value):
        """Makes it so. OSError with the reason; NotImplementedError where the kernel keeps it for itself."""
        raise NotImplementedError

    def command(self, value):
        """What a person types as root to make it so."""
        raise NotImplementedError

    def matches(self, have):
        if self.knob and self.knob.floor and have.isdigit() and self.want.isdigit():
            return int(have) >= int(self.want)
        return have == self.want

    def recipe(self):
        """Enough to make it again by `revive`."""
        return {"class": type(self).__name__, "kind": self.kind, "name": self.name, "how": self.how}


class FileSetting(Setting):
    """A value in a file under /proc or /sys. how: path."""

    @property
    def path(self):
        return self.host.at(self.how["path"])

    def read(self):
        text = self.path.read_text()
        chosen = re.search(r"\[([^\]]+)\]", text)
        return chosen.group(1) if chosen else words(text)

    def write(self, value):
        # One write call with the whole value, as the kernel wants it.
        with open(self.path, "w", encoding="ascii") as file:
            file.write(value)

    def command(self, value):
        if str(self.path).startswith("/proc/sys/"):
            return f"sysctl -w {self.name}={shlex.quote(value)}"
        return f"echo {shlex.quote(value)} > {shlex.quote(str(self.path))}"


class Dirty(FileSetting):
    """A bound of dirty pages, which the kernel has in bytes or in percent: setting one makes the other 0, and 0 bytes
    cannot be set. So what is read is the one that holds. how: path, other (the key that is 0 when this is not)."""

    def read(self):
        own, other = super().read(), words(self.other().read_text())
        return f"{self.how['other']} {other}" if own == "0" and other != "0" else own

    def other(self):
        return self.path.parent / self.how["other"]

    def write(self, value):
        if " " in value:
            self.other().write_text(value.split()[1], encoding="ascii")
        else:
            super().write(value)

    def command(self, value):
        if " " in value:
            return f"echo {value.split()[1]} > {shlex.quote(str(self.other()))}"
        return super().command(value)


class CpuMask(FileSetting):
    """A set of cores, which the kernel prints with leading zeros and commas between groups of 32."""

    def read(self):
        return mask_text(int(super().read().replace(",", ""), 16))


class CpuList(FileSetting):
    """The affinity of an interrupt; the kernel refuses it for those that it manages itself."""

    def write(self, value):
        try:
            super().write(value)
        except OSError as error:
            raise NotImplementedError(f"the kernel manages this interrupt itself ({error.strerror})") from error


class Ethtool(Setting):
    """One value of a network device. how: nic, show and pattern to read it, change to write it."""

    def read(self):
        told = self.host.ask("ethtool", self.how["show"], self.how["nic"])
        found = re.search(self.how["pattern"], told or "")
        if not found:
            raise FileNotFoundError("the device does not offer it")
        return found.group(1)

    def words_of(self, value):
        option, *rest = self.how["change"]
        return [option, self.how["nic"], *rest, value]

    def write(self, value):
        """A device may show what it does not offer: it refuses then, or does nothing, or makes another value of it."""
        try:
            self.host.do("ethtool", *self.words_of(value))
        except OSError as error:
            if "not supported" in str(error):
                raise NotImplementedError(str(error)) from error
            raise
        have = self.read()
        if have != value:
            raise NotImplementedError(f"the device made {have} of it")

    def command(self, value):
        return self.host.typed("ethtool", *self.words_of(value))


class Qdisc(Setting):
    """What queues in front of a device: `fq`, or `mq/fq` where each transmit queue has its own. how: nic, queues."""

    # Handle of the mq that is put in place of the kernel's own, whose children cannot be named.
    HANDLE = "8000"

    def read(self):
        told = self.host.ask("tc", "qdisc", "show", "dev", self.how["nic"])
        kinds = re.findall(r"^qdisc (\S+) \S+ (?:dev \S+ )?(root|parent)", told or "", re.M)
        if not kinds:
            raise FileNotFoundError("tc tells nothing of this device")
        below = sorted({kind for kind, place in kinds if place == "parent"})
        root = [kind for kind, place in kinds if place == "root"][0]
        return f"mq/{'+'.join(below)}" if root == "mq" and below else root

    def calls(self, value):
        nic = self.how["nic"]
        root, _, below = value.partition("/")
        if not below:
            return [["qdisc", "replace", "dev", nic, "root", root]]
        each = [["qdisc", "replace", "dev", nic, "parent", f"{self.HANDLE}:{queue + 1:x}", below] for queue in range(self.how["queues"])]
        return [["qdisc", "replace", "dev", nic, "root", "handle", f"{self.HANDLE}:", "mq"], *each]

    def write(self, value):
        for call in self.calls(value):
            self.host.do("tc", *call)

    def command(self, value):
        return " && ".join(self.host.typed("tc", *call) for call in self.calls(value))


class Module(Setting):
    """A module of the kernel, or what is built in. It stays when the rest is reverted: it does nothing by itself."""

    remembered = False
    # A module that is built in and has no parameters is in no list: these say that it is there.
    SIGNS = {
        "tcp_bbr": ("/proc/sys/net/ipv4/tcp_available_congestion_control", "bbr"),
        "nf_conntrack": ("/proc/sys/net/netfilter/nf_conntrack_max", ""),
    }

    def read(self):
        path, sign = self.SIGNS.get(self.name, ("", ""))
        there = self.host.text(path, None) if path else None
        if there is not None and sign in there.split() + [""]:
            return "loaded"
        if self.host.at(f"/sys/module/{self.name}").is_dir():
            return "loaded"
        if self.host.program("modprobe") is None:
            raise FileNotFoundError("it is not loaded, and there is no modprobe here")
        return "not loaded"

    def write(self, value):
        try:
            self.host.do("modprobe", self.name)
        except OSError as error:
            raise NotImplementedError(f"this kernel has no such module ({error})") from error

    def command(self, value):
        return self.host.typed("modprobe", self.name)


class Process(Setting):
    """A service that must not run: judged by its process, stopped by its unit. how: unit."""

    def read(self):
        return "running" if self.host.processes(self.name) else "stopped"

    def write(self, value):
        self.host.do("systemctl", *self.words_of(value))

    def words_of(self, value):
        return ["stop" if value == "stopped" else "start", self.how["unit"]]

    def command(self, value):
        return self.host.typed("systemctl", *self.words_of(value))


class Watched(Setting):
    """What somebody else sets: verify looks at it, apply leaves it. how: by (who sets it, or how)."""

    settable = False
    remembered = False

    def command(self, value):
        return self.how["by"]


class Firewall(Watched):
    """Whether connections of clients are tracked."""

    def read(self):
        told = self.host.ask("nft", "list", "ruleset")
        if told is None:
            raise FileNotFoundError("nft tells nothing")
        if "notrack" in told:
            return "notrack"
        # Without a rule that looks at a connection's state, the kernel tracks nothing.
        return "tracked" if re.search(r"\bct \w+", told) else "no rule tracks"

    def matches(self, have):
        return have != "tracked"


class LimitLine(Watched):
    """A user's line in limits.d, of its own for soft and hard. how: path, domain, key."""

    def read(self):
        text = self.host.at(self.how["path"]).read_text()
        found = {}
        for line in text.splitlines():
            cells = line.split("#")[0].split()
            if len(cells) == 4 and cells[0] == self.how["domain"] and cells[2] == self.how["key"]:
                found[cells[1]] = cells[3]
        pair = {found.get("soft", "none"), found.get("hard", "none")}
        return pair.pop() if len(pair) == 1 else f"soft {found.get('soft', 'none')}, hard {found.get('hard', 'none')}"


class UnitSetting(Watched):
    """What a service's process has got of its unit. how: process, key."""

    LIMITS = {"LimitNOFILE": "Max open files", "LimitMEMLOCK": "Max locked memory", "LimitCORE": "Max core file size"}
    READABLE = (*LIMITS, "OOMScoreAdjust", "Nice")

    def read(self):
        found = [self.of(folder) for folder in self.host.processes(self.how["process"])]
        if not found:
            raise FileNotFoundError("it does not run here")
        wrong = [have for have in found if not self.matches(have)]
        return (wrong or found)[0]

    def of(self, folder):
        key = self.how["key"]
        if key == "OOMScoreAdjust":
            return words((folder / "oom_score_adj").read_text())
        if key == "Nice":
            # The name, in brackets, may hold blanks; nice is the 19th field of all.
            return (folder / "stat").read_text().rpartition(")")[2].split()[16]
        found = re.search(rf"^{self.LIMITS[key]}\s+(\S+)", (folder / "limits").read_text(), re.M)
        return found.group(1).replace("unlimited", "infinity") if found else "none"


CLASSES = {made.__name__: made for made in (FileSetting, Dirty, CpuMask, CpuList, Ethtool, Qdisc, Process)}


def revive(host, entry):
    """A setting out of its recipe, as it was saved."""
    try:
        told = entry["setting"]
        return CLASSES[told["class"]](host, told["kind"], told["name"], entry["set"], **told["how"])
    except (KeyError, TypeError) as error:
        raise Fault(f"what was saved of {entry} is not understood ({error}): it was written by another version; reboot instead") from error
