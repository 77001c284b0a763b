"""Apply, verify, revert: what is done about settings, and what was there before."""

import json
import os

from .host import words
from .plan import stages
from .settings import revive
from .table import Fault


class Saved:
    """Values from before the first apply of this boot. Written before anything is changed."""

    def __init__(self, host, path):
        self.path = path
        self.boot = words(host.text("/proc/sys/kernel/random/boot_id", "none"))
        self.values = {}
        # What this kernel would not take, with its words: asked again in vain until the next boot.
        self.refused = {}
        if path.exists():
            try:
                held = json.loads(path.read_text())
                # A reboot took every setting back by itself.
                if held["boot"] == self.boot:
                    self.values, self.refused = held["values"], held.get("refused", {})
            except (ValueError, KeyError, TypeError) as error:
                raise Fault(f"{path} is damaged ({error}); move it away, then apply anew") from error

    def remember(self, setting, have):
        entry = self.values.setdefault(setting.id, {"was": have})
        entry.update(set=setting.want, setting=setting.recipe())
        self.write()

    def refuse(self, setting, note):
        """Keeps that this value is not to be had. What became of it instead is put back by revert like what was asked."""
        entry = self.values.get(setting.id)
        try:
            have = setting.read()
        except (OSError, ValueError):
            have = entry["was"] if entry else ""
        if entry and have == entry["was"]:
            del self.values[setting.id]
        elif entry:
            entry["set"] = have
        self.refused[setting.id] = {"want": setting.want, "note": note}
        self.write()

    def refusal(self, setting):
        """Why the kernel would not take this value, or None."""
        entry = self.refused.get(setting.id, {})
        return entry["note"] if entry.get("want") == setting.want else None

    def write(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        with open(fresh, "w", encoding="utf-8") as file:
            json.dump({"boot": self.boot, "values": self.values, "refused": self.refused}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path)


class Row(dict):
    """One setting as it was found, and what became of it.

    state: ok, off, changed, would change, absent (this host has none), missing (it should), failed, kept (somebody
    else's value, left by revert), left (somebody else sets it, left by apply).
    """


def row(setting, state, have="", note=""):
    made = Row(setting=setting.id, want=setting.want, have=have, state=state, note=note,
               command=setting.command(setting.want), settable=setting.settable)
    if setting.knob:
        made["knob"] = setting.knob.told()
    return made


def look(setting, saved):
    """What verify says of a setting."""
    try:
        have = setting.read()
    except (OSError, ValueError) as error:
        note = getattr(error, "strerror", None) or str(error)
        return row(setting, "absent" if setting.forgiven else "missing", note=note)
    if setting.matches(have):
        return row(setting, "ok", have)
    note = saved.refusal(setting)
    return row(setting, "absent", have, f"refused since boot: {note}") if note else row(setting, "off", have)


def make(setting, saved, dry):
    """What apply does about a setting, and says of it."""
    seen = look(setting, saved)
    if seen["state"] != "off":
        return seen
    if not setting.settable:
        return Row(seen, state="left", note="apply does not set it")
    if dry:
        return Row(seen, state="would change")
    if setting.remembered:
        saved.remember(setting, seen["have"])
    try:
        setting.write(setting.want)
        have = setting.read()
    except (OSError, NotImplementedError) as error:
        note = getattr(error, "strerror", None) or str(error)
        if isinstance(error, OSError) and not setting.knob.optional:
            return Row(seen, state="failed", note=note)
        saved.refuse(setting, note)
        return Row(seen, state="absent", note=note)
    if not setting.matches(have):
        return Row(seen, state="failed", note=f"the kernel made {have} of it")
    return Row(seen, state="changed")


def give_back(setting, entry, saved, dry, force):
    """What revert does about a setting that apply changed."""
    seen = look(setting, saved)
    seen.update(want=entry["was"], command=setting.command(entry["was"]))
    if seen["state"] in ("absent", "missing"):
        return Row(seen, state="absent")
    if seen["have"] == entry["was"]:
        return Row(seen, state="ok")
    if seen["have"] != entry["set"] and not force:
        return Row(seen, state="kept", note=f"was set to {entry['set']} here, and changed since by somebody; --force takes it back too")
    if dry:
        return Row(seen, state="would change")
    try:
        setting.write(entry["was"])
    except (OSError, NotImplementedError) as error:
        return Row(seen, state="failed", note=str(error))
    return Row(seen, state="changed")


def apply(host, table, profile, nics, saved, dry):
    return [make(setting, saved, dry) for stage in stages(host, table, profile, nics, saved.refusal) for setting in stage()]


def verify(host, table, profile, nics, saved):
    return [look(setting, saved) for stage in stages(host, table, profile, nics, saved.refusal) for setting in stage()]


def revert(host, saved, dry, force):
    entries = list(reversed(list(saved.values.values())))
    rows = [give_back(revive(host, entry), entry, saved, dry, force) for entry in entries]
    if not dry and not any(entry["state"] in ("failed", "kept") for entry in rows):
        saved.path.unlink(missing_ok=True)
    return rows
