"""What a person reads of settings: what is off and what it costs, or the commands that would change it."""

# Failures of a command; `off` only of verify, `missing` unless it was allowed.
FAULTS = {"failed", "kept"}


def faults(rows, what, allow_absent):
    bad = FAULTS | ({"off"} if what == "verify" else set()) | (set() if allow_absent else {"missing"})
    return [entry for entry in rows if entry["state"] in bad]


def headline(entry):
    have = f", is {entry['have']}" if entry["have"] else ""
    unit = f" [{entry['knob']['unit']}]" if "knob" in entry else ""
    note = f" ({entry['note']})" if entry["note"] else ""
    return f"{entry['setting']}: asked {entry['want']}{have}{unit}{note}"


def explanation(knob):
    """Lines about a knob that is off. No line is blank, nor begins with the name of a state: programs read verify's text, too."""
    measured = "not measured by this project: the source says so" if knob["cost_from"] == "source" else f"measured: {knob['cost_from']}"
    yield f"why   {knob['why']} [{knob['source']}]"
    yield f"cost  {knob['cost']} ({measured})"
    yield f"risk  {knob['risk']}"
    yield f"see   {knob['verify']}"


def summary(rows):
    counts = {}
    for entry in rows:
        counts[entry["state"]] = counts.get(entry["state"], 0) + 1
    return ", ".join(f"{number} {state}" for state, number in counts.items()) or "nothing to do"


def as_text(rows, what):
    """What was found or done, a line each; what verify finds off is explained, once for all settings of one knob."""
    told = set()
    for entry in rows:
        if what != "list" and entry["state"] == "ok":
            continue
        yield f"{entry['state']:>12}  {headline(entry)}"
        if what == "verify" and entry["state"] in ("off", "missing") and "knob" in entry:
            knob = entry["knob"]
            # One knob is many settings where there are many queues or cores.
            lines = [] if knob["why"] in told else list(explanation(knob))
            told.add(knob["why"])
            if entry["state"] == "off":
                lines.append(f"set   {entry['command']}")
            yield from (f"{'':14}{line}" for line in lines)
    yield f"{what}: {summary(rows)}"


def as_shell(rows, what, everything):
    """The commands that would change what differs (or all of the role's, for a script): nothing else is no comment."""
    yield "#!/bin/sh"
    yield f"# tune {what}: nothing was changed. As root, these commands do what it would do" + (", for this host alone." if everything else ".")
    for entry in rows:
        # A bound that is higher than asked is so already, and no command lowers it.
        known = entry["state"] == "off" or entry["have"] == entry["want"]
        if entry["state"] == "would change" or (everything and entry["settable"] and entry["state"] in ("ok", "off") and known):
            yield f"# {headline(entry)}"
            yield entry["command"]
        elif everything and entry["state"] == "ok":
            yield f"# kept  {headline(entry)}"
        elif entry["state"] != "ok":
            yield f"# {entry['state']}  {headline(entry)}"
    if any(entry["setting"].endswith(".channels") and entry["state"] == "would change" for entry in rows):
        yield "# The number of queues changes with `ethtool -L`: ask again after it, for what steers them."
    yield f"# {what}: {summary(rows)}"
