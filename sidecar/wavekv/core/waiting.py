"""Counts the local writes that are staged and not yet durable, and refuses more than may wait (G9)."""

from wavekv.config import Limits
from wavekv.errors import TooManyWaiting


class WaitingWrites:
    """How many local writes wait for the disk, and their bytes; a part of them is out, in the group being persisted."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.count = self.size_bytes = 0
        self._out_count = self._out_bytes = 0

    def check(self, more: int) -> None:
        """Refuse `more` writes where they do not fit any more.

        Raises:
            TooManyWaiting: they do not.
        """
        if self.count + more > self._limits.waiting_writes_max:
            raise TooManyWaiting(f"{self.count} writes wait for the disk; try again")
        if self.size_bytes >= self._limits.waiting_bytes_max:
            raise TooManyWaiting(f"{self.size_bytes} bytes wait for the disk; try again")

    def add(self, size_bytes: int) -> None:
        """Count one more, whose value has `size_bytes`."""
        self.count += 1
        self.size_bytes += size_bytes

    def hand_out(self) -> None:
        """Note that all that wait are in the group that is persisted next."""
        self._out_count, self._out_bytes = self.count, self.size_bytes

    def settle(self) -> None:
        """Note that this group is durable."""
        self.count -= self._out_count
        self.size_bytes -= self._out_bytes
