"""A readable trace of a run: one line for each thing that happens, at its virtual time.

Origins are drawn at random; in a trace they are o1, o2, … in the order they appear, and times count from the world's
beginning, so that a trace can be compared with a golden one.
"""

from collections.abc import Callable

from tests.simulation.clocks import EPOCH_MS
from wavekv.core.messages import Envelope
from wavekv.core.ops import (
    Batch,
    Clear,
    Cover,
    DropOrigins,
    Floor,
    Op,
    Process,
    Promise,
    Set,
    SetExpiring,
    UpdateLocalAck,
)
from wavekv.core.types import Entry


class Trace:
    """Writes lines to `write`; without it, forgets them at no cost."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write
        self._origins: dict[int, str] = {}

    @property
    def on(self) -> bool:
        """Tell whether anybody reads."""
        return self._write is not None

    def line(self, at_ms: int, what: str, message: Envelope | None = None) -> None:
        """Write one line."""
        if self._write is not None:
            said = f": {self.message(message)}" if message is not None else ""
            self._write(f"{at_ms:>9} {what}{said}")

    def origin(self, origin: int) -> str:
        """Return the name of an origin."""
        return self._origins.setdefault(origin, f"o{len(self._origins) + 1}") if origin else "none"

    def entry(self, entry: Entry) -> str:
        """Return an entry in a word."""
        value = "deleted" if entry.value is None else repr(entry.value.decode(errors="replace"))
        until = f" until {entry.expires_at - EPOCH_MS}" if entry.expires_at is not None else ""
        return f"{entry.key}={value}@{entry.timestamp - EPOCH_MS}.{self.origin(entry.origin)}.{entry.seq}{until}"

    def op(self, op: Op) -> str:
        """Return a record in a word."""
        words = type(op).__name__
        match op:
            case Set(entry) | SetExpiring(entry):
                words = self.entry(entry)
            case Batch(ops):
                words = "batch(" + ", ".join(map(self.op, ops)) + ")"
            case Clear(key):
                words = f"clear {key}"
            case UpdateLocalAck(origin, ack):
                words = f"ack {self.origin(origin)}:{ack}"
            case Cover(origin, first, last):
                words = f"cover {self.origin(origin)}:{first}-{last}"
            case Floor(timestamp):
                words = f"floor {timestamp - EPOCH_MS}"
            case Promise(timestamp):
                words = f"promise {timestamp - EPOCH_MS}"
            case DropOrigins(horizon, origins):
                named = ", ".join(f"{self.origin(origin)}:{seq}" for origin, seq in origins)
                words = f"horizon {horizon - EPOCH_MS}{', drop ' if named else ''}{named}"
            case Process(_, origin, healing):
                words = f"process writing as {self.origin(origin)}{', healing' if healing else ''}"
        return words

    def message(self, message: Envelope) -> str:
        """Return what a message says: entries, coverage, what makes it adoptable."""
        words = []
        entries = message.carried()
        if entries:
            words.append("[" + ", ".join(map(self.entry, entries)) + "]")
        if message.acks or message.dots:
            acks = [f"{self.origin(origin)}:{ack}" for origin, ack in message.acks.items()]
            dots = [f"{self.origin(o)}:{a}-{b}" for o, ranges in message.dots.items() for a, b in ranges]
            words.append(("carries {" if entries and message.push_only else "covers {") + " ".join(acks + dots) + "}")
        if message.listed is not None:
            words.append("lists {" + " ".join(one.key for one in message.listed) + "}")
        words += ["adoptable"] if message.floor is not None else []
        words += ["healing"] if message.healing else []
        words += ["page"] if message.page is not None else []
        return " ".join(words)
