"""Where a member's processes run, one after the other: name, volume, clock; and what waits for a process's disk."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.clocks import SkewedClock
from tests.simulation.paged import PagedVolume
from tests.simulation.volumes import MemoryVolume
from wavekv.core.types import Dot, Stamp
from wavekv.errors import WaveKVError

if TYPE_CHECKING:
    from tests.simulation.members import Process

Volume = MemoryVolume | PagedVolume


class Crashed(Exception):
    """The process ended in the midst of a step."""


class Slot:
    """Where a member's processes run: a name, a volume, a clock."""

    def __init__(self, slot_id: str, name: str, volume: Volume, clock: SkewedClock) -> None:
        self.id, self.name, self.volume, self.clock = slot_id, name, volume, clock
        self.process: Process | None = None
        self.destroyed = False
        self.crash_in: int | None = None
        """So many steps from now the process crashes."""
        self.sync_fails = False
        self.stall_ms = 0
        self.lossy_at = -1
        """When the volume last lost something."""
        self.in_doubt: dict[str, Stamp] = {}
        """Deletes that a group collected of which nobody knows whether it survived."""
        self.acked: list[Dot] = []
        """Writes that this volume must show after every crash (G1)."""


class Pending:
    """What waits for a ticket; `then` may be called before or after it is settled."""

    def __init__(self) -> None:
        self._settled = False
        self._error: WaveKVError | None = None
        self._ok: Callable[[], None] | None = None
        self._failed: Callable[[WaveKVError], None] | None = None

    def then(self, ok: Callable[[], None], failed: Callable[[WaveKVError], None] = lambda _: None) -> None:
        """Call one of both once this is settled."""
        self._ok, self._failed = ok, failed
        if self._settled:
            self._tell()

    def settle(self, error: WaveKVError | None) -> None:
        """Be done."""
        self._settled, self._error = True, error
        if self._ok is not None:
            self._tell()

    def _tell(self) -> None:
        assert self._ok is not None
        assert self._failed is not None
        if self._error is None:
            self._ok()
        else:
            self._failed(self._error)
