"""A disk thread without a thread: groups wait until the test lets them through."""

from collections import deque
from collections.abc import Callable, Sequence

from wavekv.core.ops import Op
from wavekv.errors import WaveKVError


class HeldSyncing:
    """Implements `committer.Syncing`; `release` ends the one append that is out."""

    def __init__(self) -> None:
        self.groups: deque[tuple[Op, ...]] = deque()
        self._done: Callable[[WaveKVError | None], None] | None = None

    def submit(self, ops: Sequence[Op], next_seq: int, done: Callable[[WaveKVError | None], None]) -> None:
        assert self._done is None, "one group is out at a time"
        self.groups.append(tuple(ops))
        self._done = done

    def run(self, work: Callable[[], None], done: Callable[[WaveKVError | None], None]) -> None:
        try:
            work()
        except WaveKVError as error:
            done(error)
        else:
            done(None)

    @property
    def busy(self) -> bool:
        return self._done is not None

    def release(self, error: WaveKVError | None = None) -> None:
        assert self._done is not None
        done, self._done = self._done, None
        done(error)
