"""What the history says about times: answers, results and deliveries of what was sent within a window."""

import json


class Message:
    """One Send: the chat's place in run.json; first put on the wire, then its first answer, its end, and its deliveries, in wall seconds."""

    __slots__ = ("chat", "sent", "answered", "hinted", "ok", "failed", "deliveries")

    def __init__(self, chat, sent):
        self.chat = chat
        self.sent, self.answered, self.ok, self.failed = sent, None, None, None
        self.hinted, self.deliveries = True, []


class Timeline:
    """Of one history folder."""

    def __init__(self, folder):
        with open(folder / "run.json", encoding="utf-8") as file:
            self.run = json.load(file)
        self.messages, self.closes, self.welcomes, gone, deliveries = {}, [], [], {}, []
        for path in sorted(folder.glob("thread-*.jsonl")):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    if line.endswith("\n"):
                        self._entry(json.loads(line), gone, deliveries)
        for ident, at in deliveries:
            if ident in self.messages:
                self.messages[ident].deliveries.append(at)

    def _entry(self, entry, gone, deliveries):
        at, op = self.run["began_ms"] / 1000 + entry["t"] / 1e9, entry["op"]
        if op == "send":
            self.messages.setdefault(entry["id"], Message(entry["c"], at))
        elif op == "deliver":
            deliveries.append((entry["id"], at))
        elif op == "close":
            self.closes.append((at, entry["code"], entry.get("why", "")))
            gone[entry["u"]] = at
        elif op == "welcome" and entry["u"] in gone:
            self.welcomes.append((gone[entry["u"]], at - gone.pop(entry["u"])))
        elif op in ("queued", "ok", "fail", "unknown") and entry["id"] in self.messages:
            message = self.messages[entry["id"]]
            message.answered = message.answered or at
            if op == "ok":
                message.ok = message.ok or at
            elif op == "fail":
                message.failed = message.failed or at
                message.hinted = entry["retry_ms"] > 0

    def sent(self, begin, end):
        return [m for m in self.messages.values() if begin <= m.sent < end]

    def closed(self, begin, end):
        """Close codes of the connections that ended meanwhile; 0: without one."""
        return sorted(code for at, code, _ in self.closes if begin <= at < end)

    def cut_off(self, begin, end):
        """In words: the connections that ended meanwhile, but for those which the client ended (it was told to move)."""
        return [why or f"closed with {code}" for at, code, why in self.closes if begin <= at < end and code != 1000]

    def recovery(self, back, quick_s=2.0):
        """From `back` until the first message from which on a second's worth of sends are acknowledged quickly."""
        after = sorted((m for m in self.messages.values() if m.sent >= back), key=lambda m: m.sent)
        for at, message in enumerate(after):
            second = [m for m in after[at:] if m.sent < message.sent + 1]
            if all(m.ok and m.ok - m.sent < quick_s for m in second):
                return message.sent - back
        return None


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else None


def median(values):
    values = sorted(value for value in values if value is not None)
    return values[len(values) // 2] if values else None
