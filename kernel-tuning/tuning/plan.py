"""What a role asks of this host: knobs become settings, as many as the host has cores, disks, devices and queues."""

import re

from .host import PAGE_BYTES, mask_text, words
from .settings import CpuList, CpuMask, Dirty, Ethtool, FileSetting, Firewall, LimitLine, Module, Process, Qdisc, UnitSetting

# Devices that stand for no disk of their own.
NO_DISK = re.compile(r"^(loop|ram|zram|sr|fd|dm-|md)")
LIMITS_FILE = "/etc/security/limits.d/60-hawser.conf"


class Ask:
    """Knobs of some kinds by their key; a key that the role does not ask for is None."""

    def __init__(self, table, profile, kind):
        self.knobs = {knob.key: knob for knob in table.of(profile, kind)}

    def __getitem__(self, key):
        return self.knobs.get(key)

    def value(self, key, default=""):
        return self.knobs[key].value if key in self.knobs else default


def stages(host, table, profile, nics, refusal):
    """Settings in the order in which they are made; a stage is read only when those before it are done.

    refusal(setting): why this host would not take it earlier in this boot, or None.
    """
    yield lambda: [Module(host, "module", knob.key, knob.value, knob) for knob in table.of(profile, "module")]
    yield lambda: list(sysctls(host, table.of(profile, "sysctl")))
    yield lambda: list(huge_pages(host, table.of(profile, "thp")))
    yield lambda: list(processors(host, Ask(table, profile, "cpu")))
    yield lambda: list(disks(host, Ask(table, profile, "disk")))
    # Before interrupts are placed: it would move them.
    yield lambda: [Process(host, "process", knob.key, knob.value, knob, unit=f"{knob.key}.service") for knob in table.of(profile, "process")]
    ask = Ask(table, profile, "nic")
    for nic in nics:
        # Queues and rings before the queues' own settings, whose number they change.
        yield lambda nic=nic: list(hardware(host, nic, ask))
        yield lambda nic=nic: list(coalesced_by_load(host, nic, ask))
        yield lambda nic=nic: list(coalesced_by_time(host, nic, ask, refusal))
        yield lambda nic=nic: list(coalesced_by_kernel(host, nic, ask, refusal))
        yield lambda nic=nic: list(steering(host, nic, ask))
    yield lambda: list(watched(host, table, profile))


def sysctl_value(host, knob):
    """The value for this machine: a share of memory becomes a number of the knob's unit."""
    if "%" not in knob.value:
        return knob.value
    unit_bytes = host.meminfo("Hugepagesize") if knob.unit == "huge pages" else PAGE_BYTES
    units = host.memory_bytes() // unit_bytes if unit_bytes else 0
    return " ".join(str(units * int(part.rstrip("%")) // 100) for part in knob.value.split())


def sysctls(host, knobs):
    for knob in knobs:
        path = "/proc/sys/" + knob.key.replace(".", "/")
        bound = re.fullmatch(r"vm\.(dirty_(?:background_)?)(ratio|bytes)", knob.key)
        if bound:
            other = bound.group(1) + {"ratio": "bytes", "bytes": "ratio"}[bound.group(2)]
            yield Dirty(host, "sysctl", knob.key, knob.value, knob, path=path, other=other)
            continue
        yield FileSetting(host, "sysctl", knob.key, sysctl_value(host, knob), knob, path=path)


def huge_pages(host, knobs):
    for knob in knobs:
        yield FileSetting(host, "thp", knob.key, knob.value, knob, path=f"/sys/kernel/mm/{knob.key}")


def processors(host, ask):
    cpu = "/sys/devices/system/cpu"
    for core in host.cores():
        if ask["scaling_governor"]:
            path = f"{cpu}/cpu{core}/cpufreq/scaling_governor"
            yield FileSetting(host, "cpu", f"cpu{core}.scaling_governor", ask.value("scaling_governor"), ask["scaling_governor"], path=path)
        if ask["idle_latency_max"]:
            yield from idle_states(host, core, ask["idle_latency_max"])


def idle_states(host, core, knob):
    """One switch for each state of a core that is slower to leave than the knob allows."""
    folder = f"/sys/devices/system/cpu/cpu{core}/cpuidle"
    for state in sorted(entry.name for entry in host.at(folder).glob("state*")):
        latency = words(host.text(f"{folder}/{state}/latency", "0"))
        if latency.isdigit() and int(latency) > int(knob.value):
            yield FileSetting(host, "cpu", f"cpu{core}.{state}.disable", "1", knob, path=f"{folder}/{state}/disable")


def disks(host, ask):
    block = host.at("/sys/block")
    names = sorted(entry.name for entry in block.iterdir()) if block.is_dir() else []
    for disk in names:
        if NO_DISK.match(disk) or words(host.text(f"/sys/block/{disk}/queue/rotational", "1")) != "0":
            continue
        for key in ("scheduler", "read_ahead_kb"):
            if ask[key]:
                yield FileSetting(host, "disk", f"{disk}.{key}", ask.value(key), ask[key], path=f"/sys/block/{disk}/queue/{key}")


def offered(told, pattern):
    found = re.search(pattern, told or "")
    return found.group(1) if found else None


def hardware(host, nic, ask):
    """Queues, rings and features: never more than the device offers."""
    def ethtool(key, want, show, pattern, *change):
        return Ethtool(host, "nic", f"{nic}.{key}", want, ask[key], nic=nic, show=show, pattern=pattern, change=list(change))

    queues, rings, features = (host.ask("ethtool", show, nic) for show in ("-l", "-g", "-k"))
    most = offered(queues, r"(?s)maximums:.*?Combined:\s+(\d+)")
    if ask.value("channels") == "cores" and most:
        now = r"(?s)Current hardware settings:.*?Combined:\s+(\d+)"
        yield ethtool("channels", min(int(most), len(host.cores())), "-l", now, "-L", "combined")
    for way in ("RX", "TX"):
        key = f"ring_{way.lower()}"
        most = offered(rings, rf"(?s)maximums:.*?{way}:\s+(\d+)")
        if ask[key] and most:
            now = rf"(?s)Current hardware settings:.*?{way}:\s+(\d+)"
            yield ethtool(key, min(int(ask.value(key)), int(most)), "-g", now, "-G", way.lower())
    names = {"gro": "generic-receive-offload", "lro": "large-receive-offload", "tso": "tcp-segmentation-offload"}
    for key, name in names.items():
        # `[fixed]` is what no command changes.
        pattern = rf"{name}: (on|off)(?! \[fixed\])"
        if ask[key] and offered(features, pattern):
            yield ethtool(key, ask.value(key), "-k", pattern, "-K", key)


def coalesced_by_load(host, nic, ask):
    """The first of three ways to have fewer interrupts: by the device, as the load is."""
    told = host.ask("ethtool", "-c", nic)
    for key, pattern in (("adaptive_rx", r"Adaptive RX: (on|off)"), ("adaptive_tx", r"Adaptive RX: \S+\s+TX: (on|off)")):
        if ask[key] and offered(told, pattern):
            yield Ethtool(host, "nic", f"{nic}.{key}", ask.value(key), ask[key], nic=nic, show="-c", pattern=pattern, change=["-C", key.replace("_", "-")])


def coalesced_by_time(host, nic, ask, refusal):
    """The second: by the device, after a fixed time, where it does not follow the load."""
    by_load = [setting for setting in coalesced_by_load(host, nic, ask) if setting.name.endswith("adaptive_rx") and not refusal(setting)]
    pattern = r"(?m)^rx-usecs:\s+(\d+)"
    if ask["rx_usecs"] and not by_load and offered(host.ask("ethtool", "-c", nic), pattern):
        yield Ethtool(host, "nic", f"{nic}.rx_usecs", ask.value("rx_usecs"), ask["rx_usecs"], nic=nic, show="-c", pattern=pattern, change=["-C", "rx-usecs"])


def coalesced_by_kernel(host, nic, ask, refusal):
    """The third: by a timer of the kernel, where the device does neither; and what else the kernel does with its packets."""
    ways = [*coalesced_by_load(host, nic, ask), *coalesced_by_time(host, nic, ask, refusal)]
    by_device = [setting for setting in ways if not setting.name.endswith("adaptive_tx") and not refusal(setting)]
    # The timer before what waits for it.
    for key in ("gro_flush_timeout", "napi_defer_hard_irqs"):
        if ask[key]:
            want = "0" if by_device else ask.value(key)
            yield FileSetting(host, "nic", f"{nic}.{key}", want, ask[key], path=f"/sys/class/net/{nic}/{key}")
    if ask["threaded"]:
        yield FileSetting(host, "nic", f"{nic}.threaded", ask.value("threaded"), ask["threaded"], path=f"/sys/class/net/{nic}/threaded")


def steering(host, nic, ask):
    """Interrupt of queue i on core i, XPS the same; RPS where the device has fewer queues than there are cores."""
    cores, folder = host.cores_near(nic), f"/sys/class/net/{nic}/queues"
    receive, transmit = host.queues(nic, "rx-"), host.queues(nic, "tx-")
    if ask["qdisc"]:
        want = f"mq/{ask.value('qdisc')}" if len(transmit) > 1 else ask.value("qdisc")
        yield Qdisc(host, "nic", f"{nic}.qdisc", want, ask["qdisc"], nic=nic, queues=len(transmit))
    if ask.value("irq") == "spread":
        for number, queue in host.interrupts(nic):
            path = f"/proc/irq/{number}/smp_affinity_list"
            yield CpuList(host, "irq", f"{nic}.{number}", cores[queue % len(cores)], ask["irq"], path=path)
    entries = int(ask.value("flow_entries", "0"))
    for name in receive:
        if ask.value("rps") == "when-fewer-queues":
            mask = mask_text(sum(1 << core for core in cores)) if len(receive) < len(cores) else "0"
            yield CpuMask(host, "rps", f"{nic}.{name}", mask, ask["rps"], path=f"{folder}/{name}/rps_cpus")
        if entries:
            yield FileSetting(host, "rfs", f"{nic}.{name}", flow_count(entries, len(receive)), ask["flow_entries"], path=f"{folder}/{name}/rps_flow_cnt")
    # One queue has nothing to choose from, and the kernel offers no XPS for it.
    for index, name in enumerate(transmit if len(transmit) > 1 else []):
        if ask.value("xps") == "queue":
            mine = sum(1 << core for at, core in enumerate(cores) if at % len(transmit) == index)
            yield CpuMask(host, "xps", f"{nic}.{name}", mask_text(mine), ask["xps"], path=f"{folder}/{name}/xps_cpus")


def flow_count(entries, queues):
    """The largest power of two whose sum over the queues stays within the global table."""
    return 1 << max((entries // max(queues, 1)).bit_length() - 1, 0)


def watched(host, table, profile):
    """What the firewall, PAM and systemd set from their own files: looked at, so that verify can tell of it."""
    for knob in table.of(profile, "firewall"):
        yield Firewall(host, "firewall", knob.key, knob.value, knob, by="nft -f /etc/nftables.conf   # as terraform/modules/firewall makes it")
    for knob in table.of(profile, "limit"):
        for domain in knob.domain:
            by = f"install -m 0644 limits.d/60-hawser.conf {LIMITS_FILE}   # in kernel-tuning/; then a new session"
            yield LimitLine(host, "limit", f"{domain}.{knob.key}", knob.value, knob, path=LIMITS_FILE, domain=domain, key=knob.key, by=by)
    for knob in table.of(profile, "unit"):
        if knob.key in UnitSetting.READABLE:
            by = f"systemctl daemon-reload && systemctl restart {knob.unit_file}   # with systemd/{knob.unit_file} in place"
            yield UnitSetting(host, "unit", f"{knob.process}.{knob.key}", knob.value, knob, process=knob.process, key=knob.key, by=by)
