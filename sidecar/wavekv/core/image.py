"""A whole store as plain parts, in the shape that a snapshot has and a store is built from at once.

`snapshot` reads and writes it, `store` takes it; neither knows the other.
"""

from array import array
from dataclasses import dataclass, field
from typing import NamedTuple

from wavekv.core.packed import empty_map
from wavekv.core.standing import Standing


class Dots(NamedTuple):
    """Entries of one origin by ascending seq: `seqs[i]` (u64) is the seq of the entry whose key is `keys[places[i]]`.

    `keys` is the whole image's, in key order; `places` are u32.
    """

    origin: int
    seqs: "array[int]"
    places: "array[int]"


@dataclass(slots=True)
class Image:
    """All that a directory held at one position of its log.

    Attributes:
        packed: key → packed entry (`core.packed`), tombstones included, in key order.
        keys: the keys in order; in any, unless `ordered`.
        dots: by ascending origin; an origin may come in several parts with ascending seqs.
        expiring: `(expires_at, place in keys)` of entries with an expiry, in any order.
        values: entries that are no tombstones, expired or not.
        size_bytes: sum of key and value bytes.
        buckets: the digest's sums.
        standing: context, floor, next sequence and process of the same moment (R2).
        position: records of the log folded into it.
        ordered: whether `keys` are in order, as a snapshot's are; others have no `dots` and nothing `expiring`.
    """

    packed: dict[str, bytes] = field(default_factory=empty_map)
    keys: list[str] = field(default_factory=list)
    dots: list[Dots] = field(default_factory=list)
    expiring: list[tuple[int, int]] = field(default_factory=list)
    values: int = 0
    size_bytes: int = 0
    buckets: tuple[int, ...] = ()
    standing: Standing = field(default_factory=Standing)
    position: int = 0
    ordered: bool = True
