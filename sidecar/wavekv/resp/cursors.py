"""Where SCANs stand: a cursor is a label of a key, and labels are in the order of keys.

A cursor has 53 bits, since JavaScript and others hold no larger whole number: the number of this process, and a label.
It carries its own place. Labels lie in proportion to how many keys are before them, and each stands for the key it was
made for, whether that is still there or not. When a label is forgotten for others, its cursor goes on from the greatest
label below it: keys are told twice then, which SCAN allows, and none is left out. Where no label is free between two
others, a page goes on to the next one, or if that is far, all labels are given anew.

Turned down: a table of random cursors, which forgets scans because others begin; the place of a key among all keys,
which leaves keys out when others are deleted; an order of keys by hash, an index of a million keys for SCAN alone.
"""

from bisect import bisect_right
from collections import OrderedDict
from typing import Final, NamedTuple

from wavekv.resp.refusals import Refused

LABEL_BITS: Final = 40
_PROCESS_BITS: Final = 13
_END: Final = 1 << LABEL_BITS
CURSOR_MAX: Final = (1 << (LABEL_BITS + _PROCESS_BITS)) - 1


class _Place(NamedTuple):
    key: str
    before: int
    """About how many keys were up to it when it was made."""


class Cursors:
    """The labels of one process. Of the server, since clients scan over several connections."""

    def __init__(self, count_max: int, process: int) -> None:
        """Remember `count_max` labels at most; `process` tells cursors of an earlier process apart."""
        self._count_max = count_max
        self._process = process % (1 << _PROCESS_BITS)
        self._labels: list[int] = []
        self._keys: list[str] = []
        self._places: OrderedDict[int, _Place] = OrderedDict()
        self._former: tuple[int, list[int], list[str]] = (-1, [], [])
        """Process number, labels and keys until they were given anew, for the scans that were in progress then."""

    def behind(self, cursor: int) -> str | None:
        """Return the key that `cursor` stands behind, None for the beginning. Raises Refused."""
        process, label = cursor >> LABEL_BITS, cursor & (_END - 1)
        former, labels, keys = self._former
        if cursor and process == former:
            at = bisect_right(labels, label) - 1
            return keys[at] if at >= 0 else None
        if cursor > CURSOR_MAX or (cursor and process != self._process):
            raise Refused("ERR invalid cursor: it is of another process of this member; begin anew with 0")
        at = bisect_right(self._labels, label) - 1
        if at < 0:
            return None
        self._places.move_to_end(self._labels[at])
        return self._keys[at]

    def stop(self, after: str | None, key: str, told: int, count: int) -> int | None:
        """Return the cursor of a page that began behind `after` and told `told` keys, the last one `key`.

        `count` keys are held in all. None: no label is free there; the page has to go on.
        """
        at = bisect_right(self._keys, key) - 1
        if at >= 0 and self._keys[at] == key:
            self._places.move_to_end(self._labels[at])
            return self._cursor(self._labels[at])
        low, before_low = (0, 0) if at < 0 else self._place(at)
        high, before_high = (_END, count) if at + 1 == len(self._labels) else self._place(at + 1)
        if high - low < 2:
            return None
        passed = max(self._before(after) + told - before_low, 1)
        room = max(before_high - before_low, 2 * passed)
        label = min(max(low + (high - low) * passed // room, low + 1), high - 1)
        self._labels.insert(at + 1, label)
        self._keys.insert(at + 1, key)
        self._places[label] = _Place(key, before_low + passed)
        if len(self._labels) > self._count_max:
            self._forget_half()
        return self._cursor(label)

    def next_behind(self, key: str) -> str | None:
        """Return the next key that has a label, None if there is none."""
        at = bisect_right(self._keys, key)
        return self._keys[at] if at < len(self._keys) else None

    def at(self, key: str) -> int | None:
        """Return the cursor behind a key that has a label, None if it has none any more."""
        at = bisect_right(self._keys, key) - 1
        return self._cursor(self._labels[at]) if at >= 0 and self._keys[at] == key else None

    def renew(self) -> None:
        """Give other labels from now on: too many keys lie where none is free. Scans in progress outlive that once."""
        self._former = (self._process, self._labels, self._keys)
        self._process = (self._process + 1) % (1 << _PROCESS_BITS)
        self._labels, self._keys = [], []
        self._places.clear()

    def _place(self, at: int) -> tuple[int, int]:
        label = self._labels[at]
        return label, self._places[label].before

    def _before(self, key: str | None) -> int:
        """Return about how many keys are up to `key`, by the greatest label that is not behind it."""
        at = -1 if key is None else bisect_right(self._keys, key) - 1
        return 0 if at < 0 else self._place(at)[1]

    def _cursor(self, label: int) -> int:
        return self._process << LABEL_BITS | label

    def _forget_half(self) -> None:
        """Forget the labels that were used longest ago."""
        for _ in range(len(self._places) // 2):
            self._places.popitem(last=False)
        self._labels = sorted(self._places)
        self._keys = [self._places[label].key for label in self._labels]
