"""A disk that fails or stops at a chosen call, over the real one; and small doubles of the log's other ports."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from wavekv.disk import OsDisk


class PowerCut(BaseException):
    """The process is gone: nothing may catch this."""


class HastyDisk(OsDisk):
    """Does not wait for the device: for tests of many small logs that lose no power."""

    def sync(self, descriptor: int) -> None: ...

    def sync_dir(self, path: Path) -> None: ...


class FaultDisk(OsDisk):
    """Counts and records every call; `before` may raise in place of a call, or return how many bytes a write takes."""

    def __init__(self, before: Callable[[str, int], int | None] = lambda _call, _index: None) -> None:
        self.calls: list[str] = []
        self.before = before

    def _meet(self, call: str) -> int | None:
        self.calls.append(call)
        return self.before(call, len(self.calls) - 1)

    def open(self, path: Path, flags: int) -> int:
        self._meet(f"open {path.name}")
        return super().open(path, flags)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        taken = self._meet(f"write {len(data)}" if data.strip(b"\0") else "zeros")
        return super().write(descriptor, data if taken is None else data[:taken], offset)

    def truncate(self, descriptor: int, size: int) -> None:
        self._meet("truncate")
        super().truncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        self._meet("sync")
        super().sync(descriptor)

    def sync_dir(self, path: Path) -> None:
        self._meet(f"sync_dir {path.name}")
        super().sync_dir(path)

    def rename(self, source: Path, target: Path) -> None:
        self._meet(f"rename {source.name} {target.name}")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._meet(f"unlink {path.name}")
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self._meet(f"mkdir {path.name}")
        super().mkdir(path)


def stop_at(index: int) -> Callable[[str, int], int | None]:
    """Cut the power in place of call `index`; a write of several bytes there leaves half of them."""

    def before(call: str, seen: int) -> int | None:
        if seen == index:
            raise PowerCut(call)
        return None

    return before


def fail_on(prefix: str, code: int, times: int = 1) -> Callable[[str, int], int | None]:
    """Raise OSError `code` in place of the first `times` calls that begin with `prefix`."""
    left = [times]

    def before(call: str, _seen: int) -> int | None:
        if call.startswith(prefix) and left[0] > 0:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        return None

    return before


FULL = errno.ENOSPC
BROKEN = errno.EIO


class StillClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return 1_700_000_000_000

    def monotonic(self) -> float:
        return self.seconds


class SyncRecorder:
    """An observer that keeps what was synced."""

    def __init__(self) -> None:
        self.groups: list[tuple[int, int]] = []

    def synced(self, seconds: float, ops: int, size_bytes: int) -> None:
        self.groups.append((ops, size_bytes))

    def operation(self, plane: str, kind: str, result: str, seconds: float) -> None: ...

    def propagated(self, seconds: float) -> None: ...

    def exchanged(self, peer: str, result: str, seconds: float) -> None: ...

    def pushed(self, peer: str, result: str, entries: int) -> None: ...

    def refused(self, code: str, count: int) -> None: ...
