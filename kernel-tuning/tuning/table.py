"""The table of knobs (knobs.toml): read, and refused with a reason where a line of it is not whole."""

import dataclasses
import pathlib
import tomllib

KINDS = ("module", "sysctl", "thp", "cpu", "disk", "nic", "process", "firewall", "limit", "unit")


class Fault(Exception):
    """A wrong command line or file: whoever called can mend it."""


@dataclasses.dataclass(frozen=True)
class Knob:
    """One line of the table; knobs.toml says what each column means."""

    kind: str
    key: str
    value: str
    unit: str
    profiles: tuple
    why: str
    risk: str
    cost: str
    cost_from: str
    verify: str
    source: str
    floor: bool = False
    optional: bool = False
    # Of a limit: the users that it is for. Of a unit: its file, and the process that runs under it, to be looked at.
    domain: tuple = ()
    unit_file: str = ""
    process: str = ""
    # As the gateway names it in what it warns of at start.
    gateway: str = ""

    @property
    def place(self):
        """What a role's own line replaces that of all."""
        return (self.kind, self.unit_file, self.key)

    def told(self):
        """What a person is told of it, as plain values."""
        names = ("key", "unit", "why", "risk", "cost", "cost_from", "verify", "source")
        return {name: getattr(self, name) for name in names}


COLUMNS = tuple(field.name for field in dataclasses.fields(Knob) if field.default is dataclasses.MISSING)
WORDS = ("why", "risk", "cost", "cost_from", "verify", "source", "unit", "key", "value")


class Table:
    """All knobs, in the order in which the file has them."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        try:
            with open(self.path, "rb") as file:
                held = tomllib.load(file)
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise Fault(f"{self.path.name}: {error}") from error
        self.profiles = tuple(held.get("profiles", ()))
        self.about = held.get("about", {})
        self.knobs = [self.knob(entry) for entry in held.get("knob", ())]
        self.refuse_doubles()

    def knob(self, entry):
        name = f"{self.path.name}: {entry.get('kind', 'a knob')} {entry.get('key', 'without a key')}"
        missing = [column for column in COLUMNS if column not in entry]
        if missing:
            raise Fault(f"{name}: no {', '.join(missing)}")
        unknown = set(entry) - {field.name for field in dataclasses.fields(Knob)}
        if unknown:
            raise Fault(f"{name}: {', '.join(sorted(unknown))} is no column")
        if entry["kind"] not in KINDS:
            raise Fault(f"{name}: kind is one of {', '.join(KINDS)}")
        for column in WORDS:
            text = entry[column]
            # A line of a file and a cell of a table are made of it.
            if not isinstance(text, str) or not text.strip() or "\n" in text:
                raise Fault(f"{name}: {column} is to be one line of text")
        # A host carries the part of one role: `profiles` names it, `about` all that there are.
        strange = set(entry["profiles"]) - set(self.about)
        if strange or not entry["profiles"]:
            raise Fault(f"{name}: profiles is a list of {', '.join(self.about)}")
        lists = {column: tuple(entry[column]) for column in ("profiles", "domain") if column in entry}
        return Knob(**{**entry, **lists})

    def refuse_doubles(self):
        seen = set()
        for knob in self.knobs:
            for profile in knob.profiles:
                if (knob.place, profile) in seen:
                    raise Fault(f"{self.path.name}: {knob.kind} {knob.key} is there twice for {profile}")
                seen.add((knob.place, profile))

    def of(self, profile, *kinds):
        """Knobs of these kinds for a role: those of all, then its own, which replace them."""
        found = {}
        for name in ("all", profile):
            for knob in self.knobs:
                if knob.kind in kinds and name in knob.profiles:
                    found[knob.place] = knob
        return list(found.values())
