"""What is made from the table: sysctl.d, limits.d, modules-load.d, parts of the units, the tables of README.md."""

import re

from .table import Fault

MADE = "Made from knobs.toml by `tune generate`: change it there."
LIMITS = "limits.d/60-hawser.conf"
MODULES = "modules-load.d/hawser.conf"
# Files in which a part is made: how the part begins and ends.
UNIT_PART = (f"# {MADE}", "# End of what is made.")
README_PART = ("<!-- {name}: made from knobs.toml by `tune generate` -->", "<!-- end of {name} -->")
TABLES = {
    "sysctl": ("sysctl",),
    "devices": ("thp", "cpu", "disk", "nic", "process", "firewall"),
    "files": ("module", "limit", "unit"),
}


def made(table, folder):
    """Every file that is made, as {path within the folder: text}. Texts around made parts are read from the folder."""
    files = {sysctl_file(name): sysctl_text(table, name) for name in ("all", *table.profiles)}
    files[LIMITS] = limits_text(table)
    files[MODULES] = modules_text(table)
    for name in sorted({knob.unit_file for knob in table.knobs if knob.kind == "unit"}):
        path = f"systemd/{name}"
        files[path] = with_part((folder / path).read_text(), path, UNIT_PART, unit_lines(table, name))
    readme = (folder / "README.md").read_text()
    for name, kinds in TABLES.items():
        part = tuple(mark.format(name=name) for mark in README_PART)
        readme = with_part(readme, "README.md", part, readme_table(table, kinds))
    files["README.md"] = readme
    return files


def sysctl_file(profile):
    return "sysctl.d/60-hawser-common.conf" if profile == "all" else f"sysctl.d/61-hawser-{profile}.conf"


def sysctl_text(table, profile):
    lines = [f"# {table.about[profile]}", f"# {MADE}", "# Reasons, risks and sources: README.md there. A leading `-`: where the kernel has it."]
    for knob in table.knobs:
        if knob.kind != "sysctl" or profile not in knob.profiles:
            continue
        if "%" in knob.value:
            lines.append(f"# {knob.key} is {knob.value} of the machine's memory, in {knob.unit}: only `tune` can know how much that is.")
        else:
            lines.append(f"{'-' if knob.optional else ''}{knob.key} = {knob.value}")
    return "\n".join(lines) + "\n"


def limits_text(table):
    lines = [f"# {MADE}", "# Sessions opened by PAM (an operator's shell, a load generator). Services have theirs in their units."]
    for knob in table.knobs:
        if knob.kind == "limit":
            lines.extend(f"{domain:<7} {way}  {knob.key:<8} {knob.value}" for domain in knob.domain for way in ("soft", "hard"))
    return "\n".join(lines) + "\n"


def modules_text(table):
    lines = [f"# {MADE}"]
    for knob in table.knobs:
        if knob.kind == "module":
            lines.extend([f"# {knob.why}", knob.key])
    return "\n".join(lines) + "\n"


def unit_lines(table, name):
    return [f"{knob.key}={knob.value}" for knob in table.knobs if knob.kind == "unit" and knob.unit_file == name]


def with_part(text, path, part, lines):
    begin, end = part
    pattern = re.compile(rf"^{re.escape(begin)}$.*?^{re.escape(end)}$", re.S | re.M)
    if len(pattern.findall(text)) != 1:
        raise Fault(f"{path}: `{begin}` and `{end}` have to be there once, for what is made to stand between")
    return pattern.sub(lambda _: "\n".join([begin, *lines, end]), text)


def cell(text):
    return text.replace("|", "\\|")


def readme_table(table, kinds):
    """Rows of these kinds: every column of a knob, in the order in which one asks."""
    yield ""
    yield "| knob | value | profile | why | cost while off | risk when set | how to see it | source |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for knob in (knob for kind in kinds for knob in table.knobs if knob.kind == kind):
        bound = "≥ " if knob.floor else ""
        place = f" of {', '.join(knob.domain)}" if knob.domain else f" in `{knob.unit_file}`" if knob.unit_file else ""
        measured = "" if knob.cost_from == "source" else f" **Measured: {knob.cost_from}**"
        optional = ", where there is" if knob.optional and knob.kind == "sysctl" else ""
        cells = [f"`{knob.key}`{place}", f"{bound}`{knob.value}` {knob.unit}", ", ".join(knob.profiles) + optional,
                 knob.why, knob.cost + measured, knob.risk, f"`{knob.verify}`", knob.source]
        yield "| " + " | ".join(cell(text) for text in cells) + " |"
    yield ""


def differing(table, folder):
    """Paths that are not as the table would have them, and those that it would not make at all."""
    files = made(table, folder)
    off = [path for path, text in files.items() if not (folder / path).exists() or (folder / path).read_text() != text]
    strays = [f"sysctl.d/{path.name}" for path in sorted((folder / "sysctl.d").glob("*")) if f"sysctl.d/{path.name}" not in files]
    return files, off, strays


def generate(table, folder, check):
    """Makes what differs, or says so. Returns lines to be printed, and whether all was as it should be."""
    files, off, strays = differing(table, folder)
    if not check:
        for path in off:
            (folder / path).write_text(files[path])
        for path in strays:
            (folder / path).unlink()
    word = "differs from knobs.toml: run `tune generate`" if check else "made"
    lines = [f"{path}: {word}" for path in off]
    lines += [f"{path}: {'nothing makes it any more: run `tune generate`' if check else 'removed'}" for path in strays]
    lines.append(f"generate: {len(files)} files, {len(off) + len(strays)} {'differ' if check else 'changed'}")
    return lines, not (check and (off or strays))
