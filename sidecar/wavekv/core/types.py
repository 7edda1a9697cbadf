"""What the whole engine speaks of: entries, dots, stamps, and the one comparison that decides between two entries.

- A *dot* `(origin, seq)` names one write for ever (I2).
- A *stamp* `(timestamp, origin, seq)` ranks it: the greatest stamp of a key wins (G3).
- A *tombstone* is an entry whose value is None; an empty value is a value.

Keys are `str`: comparing code points orders them exactly as their UTF-8 bytes do.
"""

from typing import NamedTuple

from wavekv.errors import InvalidKey

Dot = tuple[int, int]
"""`(origin, seq)`: u32 and u64, seq from 1."""

Stamp = tuple[int, int, int]
"""`(timestamp, origin, seq)`, compared in that order as numbers."""

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1
I64_MIN = -(2**63)
I64_MAX = 2**63 - 1


class Entry(NamedTuple):
    """One write of one key. `timestamp` and `expires_at` are milliseconds since 1970."""

    key: str
    value: bytes | None
    timestamp: int
    origin: int
    seq: int
    expires_at: int | None = None

    @property
    def dot(self) -> Dot:
        """The name of this write."""
        return (self.origin, self.seq)

    @property
    def stamp(self) -> Stamp:
        """The rank of this write among those of its key."""
        return (self.timestamp, self.origin, self.seq)

    @property
    def etag(self) -> str:
        """The stamp as clients see it: `timestamp.origin.seq`, without quotes."""
        return f"{self.timestamp}.{self.origin}.{self.seq}"

    def alive(self, now_ms: int) -> bool:
        """Tell whether a reader may see the entry: it has a value and has not expired."""
        return self.value is not None and (self.expires_at is None or self.expires_at > now_ms)


def beats(challenger: Entry, held: Entry) -> bool:
    """Tell whether `challenger` replaces `held` under the same key, by last-writer-wins.

    The greater stamp wins. This is the only place that decides between two entries; a repair, whose lists hold no
    values, compares stamps alone to see what is newer. Honest members never make two contents for one stamp, crate
    nodes can. Such a pair converges by content: a smaller expiry wins, any expiry beats none, then the greater value
    bytes win, and a value beats a tombstone.
    """
    ours, theirs = challenger.stamp, held.stamp
    if ours != theirs:
        return ours > theirs
    return _content_rank(challenger) > _content_rank(held)


def _content_rank(entry: Entry) -> tuple[int, int, int, bytes]:
    expiry = entry.expires_at
    return (expiry is not None, 0 if expiry is None else -expiry, entry.value is not None, entry.value or b"")


def entry_bytes(entry: Entry) -> int:
    """Return what an entry counts towards `bytes_max`: key and value bytes."""
    return key_bytes(entry.key) + len(entry.value or b"")


def key_bytes(key: str) -> int:
    """Return the length of `key` in UTF-8."""
    return len(key) if key.isascii() else len(key.encode())


def parse_key(raw: bytes, key_bytes_max: int) -> str:
    """Return the key in `raw` (UTF-8).

    Raises:
        InvalidKey: empty, longer than `key_bytes_max` bytes, or not UTF-8.
    """
    if not raw:
        raise InvalidKey("the key is empty; a key has 1 byte at least")
    if len(raw) > key_bytes_max:
        raise InvalidKey(f"the key has {len(raw)} bytes; at most {key_bytes_max} are allowed")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidKey(f"the key is not UTF-8: byte {error.start} cannot be decoded") from error
