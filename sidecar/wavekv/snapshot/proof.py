"""That the entries of a snapshot are well formed and its dots are theirs, looked at by columns while it is loaded.

A member finds entries by their dots and relies on both agreeing; a snapshot whose hashes hold may still be one that
nobody's writer made. `verification` looks at more, and at each entry for itself.
"""

from array import array
from itertools import pairwise
from operator import itemgetter

from wavekv.core.image import Dots
from wavekv.core.packed import (
    EXPIRING_FACTS_BYTES,
    FACTS_BYTES,
    HAS_EXPIRY,
    HAS_VALUE,
    ascending,
    facts_of,
    well_formed,
)
from wavekv.core.types import key_bytes


class Proof:
    """What was seen so far of one snapshot: entries first, then dots."""

    def __init__(self) -> None:
        self.values = self.size_bytes = self.dots_seen = 0
        self._seqs, self._origins = array("Q"), array("I")
        self._last = (-1, -1, -1)

    def entries(self, keys: list[str], packed: list[bytes]) -> bool:
        """Take a block of entries; tell whether each is what `pack` makes."""
        if min(map(len, packed)) < FACTS_BYTES:
            return False
        facts = facts_of(packed)
        kinds = facts.kinds
        plain = kinds.count(HAS_VALUE) == len(kinds)
        if not plain and not all(map(well_formed, packed)):
            return False
        expiring = 0 if plain else sum(map(kinds.count, range(HAS_EXPIRY, 4)))
        self._seqs.extend(facts.seqs)
        self._origins.extend(facts.origins)
        self.values += kinds.count(HAS_VALUE) + kinds.count(HAS_VALUE | HAS_EXPIRY)
        taken = len(kinds) * FACTS_BYTES + expiring * (EXPIRING_FACTS_BYTES - FACTS_BYTES)
        self.size_bytes += sum(map(len, packed)) - taken + key_bytes("".join(keys))
        return True

    def dots(self, part: Dots) -> bool:
        """Take the dots of one origin; tell whether each is that of its entry, and comes once and in order."""
        origin, seqs, places = part
        if max(places) >= len(self._seqs) or self._last >= (origin, seqs[0], places[0]):
            return False
        at = itemgetter(*places, places[0])  # one more, so that it always answers with several
        if at(self._seqs)[:-1] != tuple(seqs) or {*at(self._origins)} != {origin}:
            return False
        if not ascending(seqs) and not _ordered(part):
            return False
        self._last = (origin, seqs[-1], places[-1])
        self.dots_seen += len(seqs)
        return True


def _ordered(part: Dots) -> bool:
    """Tell whether dots ascend where some are of two keys, as only crate nodes make them."""
    pairs = list(zip(part.seqs, part.places, strict=True))
    return all(first < second for first, second in pairwise(pairs))
