"""How much a directory may come to in memory before a start is refused (G9): its files are a stranger's until then.

The limits of a member bind what it takes, and a directory that was filled under larger ones has to start; so the bound
is a multiple of them. What is refused is left as it was, and starts under larger limits.
"""

from pathlib import Path
from typing import Final, NamedTuple

from wavekv.config import BYTES_MOST, ENTRIES_MOST, VOLUME_LIMITS, Limits
from wavekv.core.loading import Loader
from wavekv.errors import VolumeTooLarge


class HeldBounds(NamedTuple):
    """Entries, and key and value bytes."""

    entries_max: int
    bytes_max: int

    def check(self, path: Path, entries: int, size_bytes: int = 0) -> None:
        """Refuse to go on with `path` when it comes to so many.

        Raises:
            VolumeTooLarge: that is more than it may.
        """
        if entries > self.entries_max or size_bytes > self.bytes_max:
            raise VolumeTooLarge(
                f"{path} comes to more than {self.entries_max} entries or {self.bytes_max} bytes, "
                f"{VOLUME_LIMITS.held_ratio_max} times what this member may hold; if the directory is right, start "
                "with the --limit-entries and --limit-bytes it was filled under"
            )


UNBOUNDED: Final = HeldBounds(VOLUME_LIMITS.held_ratio_max * ENTRIES_MOST, VOLUME_LIMITS.held_ratio_max * BYTES_MOST)
"""What no directory comes to, whatever the limits of its member are; for tools that know none."""


def held_bounds(limits: Limits) -> HeldBounds:
    """Return what a directory may come to under `limits`."""
    ratio = VOLUME_LIMITS.held_ratio_max
    return HeldBounds(ratio * limits.entries_max, ratio * limits.bytes_max)


class HeldCheck:
    """Looks at what a loader holds while a log is read into it."""

    def __init__(self, path: Path, bounds: HeldBounds, loader: Loader) -> None:
        self._path = path
        self._bounds = bounds
        self._loader = loader
        self._room = 0
        """Bytes that may be read before those held are summed up again."""

    def look(self) -> None:
        """Compare with the bounds.

        Raises:
            VolumeTooLarge: it is more than it may be.
        """
        loader, entries = self._loader, len(self._loader.held)
        context = loader.standing.context
        self._bounds.check(self._path, entries)
        if len(context.acks) + context.range_count > VOLUME_LIMITS.coverage_max:
            raise VolumeTooLarge(
                f"the log in {self._path} names more than {VOLUME_LIMITS.coverage_max} origins and ranges of coverage; "
                "restore the directory from a copy, or start with an empty one"
            )

    def read(self, size_bytes: int) -> None:
        """Take note that so much of the log was read. Raises as `look`."""
        self._room -= size_bytes
        if self._room < 0:
            held = self._loader.held
            total = sum(map(len, held.values()))
            self._bounds.check(self._path, len(held), total)
            self._room = self._bounds.bytes_max - total
