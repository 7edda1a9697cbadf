"""A disk that remembers what is synced: real files are the page cache, and a power loss leaves what the model allows.

What is durable, and what a power loss may leave of the rest:

- Content lies in pages. Each page that was written since its file's last sync is, independently of all others, as it
  was then or as any write since left it. The size is any that the file had since then.
- Names (made, renamed, removed) are one journal of the whole file system, in the order of the calls: some prefix of it
  is kept, at least up to the last call in a directory that was synced. A sync of a file keeps no name. This is weaker
  than ext4 and XFS, whose directory sync keeps all that came before, and keeps order as they do.
- A sync that failed leaves each page written or not, and *clean*: no later sync writes it, only a new write does (as
  Linux does). `forget_clean` drops such pages from the cache too, as memory pressure does.
- A full disk takes what fits of a write, then refuses; so it does with new names, and by chance with a sync.
- A volume that turned read-only keeps what is in the cache and writes none of it; nothing can be changed any more.

Who reads files reads them without this class, so the files are always what the cache holds.
"""

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.disk import PowerCut
from wavekv.disk import OsDisk

PAGE_BYTES = 4096


@dataclass(eq=False)
class _File:
    """What a power loss may make of one file."""

    durable: dict[int, bytes] = field(default_factory=dict)
    """Page number to content; absent: zeros."""
    sizes: list[int] = field(default_factory=lambda: [0])
    """The durable size, then those since."""
    dirty: dict[int, list[bytes]] = field(default_factory=dict)
    """The contents each page had since the last sync."""
    lost: set[int] = field(default_factory=set)
    """Clean pages whose content is not on disk."""


@dataclass(frozen=True)
class _Name:
    """One entry of the journal: `source` loses its name, `target` gets it; either may be None."""

    source: Path | None
    target: Path | None
    file: _File | None
    """None: a directory."""


class PagedDisk(OsDisk):
    """Files under `root`, which is empty at first; `rng` decides what is not decided by the caller's faults.

    Attributes:
        cut_in: the call, counted from 1, in place of which the power goes, or the process; None: it stays. A write
            there is done in part. Until `kill` or `power_loss` every later call fails too, so no clean-up runs.
        read_only_in: the call, counted from 1, from which the volume is read-only; None: it stays as it is.
        read_only: it is now; it stays so until told otherwise.
        room: bytes that are left on the volume, None: enough.
        failing_syncs: so many syncs of files from now fail with `failing_code`.
    """

    def __init__(self, root: Path, rng: random.Random, page_bytes: int = PAGE_BYTES) -> None:
        self.root = root
        self.cut_in: int | None = None
        self.read_only_in: int | None = None
        self.read_only = False
        self.room: int | None = None
        self.failing_syncs = 0
        self.failing_code = errno.EIO
        self._dead = False
        self._rng = rng
        self._page_bytes = page_bytes
        self._names: dict[Path, _File | None] = {}
        self._durable_names: dict[Path, _File | None] = {}
        self._journal: list[_Name] = []
        self._open: dict[int, _File] = {}

    # ---- the calls ---------------------------------------------------------------------------------------------

    def open(self, path: Path, flags: int) -> int:
        self._meet()
        fresh = not path.exists()
        self._refuse_changes(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        if fresh and flags & os.O_CREAT and self.room is not None and self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        reading = flags & ~(os.O_ACCMODE | os.O_TRUNC) | os.O_RDWR  # pages are read back
        descriptor = super().open(path, reading)
        if fresh:
            self._change(_Name(None, path, _File()))
        file = self._names[path]
        assert file is not None, f"{path} is a directory"
        self._open[descriptor] = file
        if flags & os.O_TRUNC:
            self._resize(descriptor, 0)
        return descriptor

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]
        super().close(descriptor)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        cut = self._meet(cuts=False)
        self._refuse_changes(not cut)
        size = os.fstat(descriptor).st_size
        growth = max(0, offset + len(data) - size)
        taken = len(data)
        if self.room is not None and growth > self.room:
            taken -= growth - max(self.room, 0)
        if cut:
            taken = self._rng.randrange(max(taken, 0) + 1)
        elif taken <= 0 < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        elif taken > 1 and self._rng.random() < 0.02:  # the system may take less than it was given at any time
            taken = self._rng.randrange(1, taken)
        super().write(descriptor, data[:taken], offset)
        self._dirtied(descriptor, offset, offset + taken)
        if self.room is not None:
            self.room -= max(0, offset + taken - size)
            assert self.room >= 0, "nothing has more room than there is"
        if cut:
            raise PowerCut("write")
        return taken

    def truncate(self, descriptor: int, size: int) -> None:
        self._meet()
        self._refuse_changes()
        self._resize(descriptor, size)

    def sync(self, descriptor: int) -> None:
        self._meet()
        file = self._open[descriptor]
        self._refuse_changes(file.dirty or len(file.sizes) > 1)
        if self.failing_syncs > 0:
            self.failing_syncs -= 1
            for page, contents in file.dirty.items():
                if self._rng.random() < 0.5:
                    file.durable[page] = contents[-1]
                else:
                    file.lost.add(page)
            file.dirty.clear()
            raise OSError(self.failing_code, os.strerror(self.failing_code))
        file.durable.update((page, contents[-1]) for page, contents in file.dirty.items())
        file.dirty.clear()
        file.sizes = [os.fstat(descriptor).st_size]

    def sync_dir(self, path: Path) -> None:
        self._meet()
        self._refuse_changes(self._journal)
        kept = 0
        for place, name in enumerate(self._journal, start=1):
            if path in {touched.parent for touched in (name.source, name.target) if touched is not None}:
                kept = place
        self._commit(kept)

    def rename(self, source: Path, target: Path) -> None:
        self._meet()
        self._refuse_changes()
        if target.is_file():
            self._free(target.stat().st_size)
        super().rename(source, target)
        self._change(_Name(source, target, self._names[source]))

    def unlink(self, path: Path) -> None:
        self._meet()
        self._refuse_changes(path.exists())
        if path.exists():
            self._free(path.stat().st_size)
            super().unlink(path)
            self._change(_Name(path, None, None))

    def mkdir(self, path: Path) -> None:
        self._meet()
        fresh = not path.exists()
        self._refuse_changes(fresh)
        super().mkdir(path)
        if fresh:
            self._change(_Name(None, path, None))

    # ---- what happens to the machine ---------------------------------------------------------------------------

    @property
    def descriptors(self) -> frozenset[int]:
        """What is open."""
        return frozenset(self._open)

    def kill(self, spared: frozenset[int] = frozenset()) -> None:
        """End the process that opened all descriptors but `spared`; the cache stays."""
        self._dead, self.cut_in, self.read_only_in = False, None, None
        for descriptor in self.descriptors - spared:
            self.close(descriptor)

    def power_loss(self, choose: Callable[[int], int]) -> None:
        """Leave a state that the model allows; `choose(n)` returns one of 0 … n - 1. The process has ended."""
        self.kill()
        self._commit(choose(len(self._journal) + 1))
        self._journal.clear()
        for path in sorted(self._names, reverse=True):
            if self._names[path] is None and path not in self._durable_names:
                path.rmdir()
            elif self._names[path] is not None:
                path.unlink()
        self._names = dict(self._durable_names)
        for path, file in sorted(self._names.items()):
            if file is None:
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(self._settle(file, choose))

    def forget_clean(self) -> None:
        """Drop from the cache the pages that a failed sync left clean; they read as they are on disk."""
        assert not self._open, "only between two processes"
        for path, file in self._names.items():
            if file is not None and file.lost:
                data = bytearray(path.read_bytes())
                for page in sorted(file.lost):
                    start = page * self._page_bytes
                    content = file.durable.get(page, bytes(self._page_bytes))
                    data[start : start + self._page_bytes] = content[: max(0, len(data) - start)]
                path.write_bytes(data)
                file.lost.clear()

    def flip(self, path: Path, offset: int, bit: int) -> None:
        """Let a bit of `path` rot, on the disk and in the cache."""
        file = self._names[path]
        assert file is not None, f"{path} is a directory"
        data = bytearray(path.read_bytes())
        data[offset] ^= 1 << bit
        path.write_bytes(data)
        page, within = divmod(offset, self._page_bytes)
        content = bytearray(file.durable.get(page, bytes(self._page_bytes)))
        content[within] = data[offset]
        file.durable[page] = bytes(content)

    # ---- the model ---------------------------------------------------------------------------------------------

    def _meet(self, *, cuts: bool = True) -> bool:
        """Count a call, and let the power go if this is the one; tell whether it goes in the midst of a write."""
        if self._dead:
            raise PowerCut
        if self.read_only_in is not None:
            self.read_only_in -= 1
            if self.read_only_in <= 0:
                self.read_only_in, self.read_only = None, True
        if self.cut_in is None:
            return False
        self.cut_in -= 1
        if self.cut_in > 0:
            return False
        self.cut_in, self._dead = None, True
        if cuts:
            raise PowerCut
        return True

    def _refuse_changes(self, changes: object = True) -> None:
        """Raise if the volume is read-only and the call `changes` something."""
        if self.read_only and changes:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def _change(self, name: _Name) -> None:
        self._journal.append(name)
        _apply(self._names, name)

    def _commit(self, count: int) -> None:
        for name in self._journal[:count]:
            _apply(self._durable_names, name)
        del self._journal[:count]

    def _free(self, size: int) -> None:
        if self.room is not None:
            self.room += size

    def _resize(self, descriptor: int, size: int) -> None:
        before = os.fstat(descriptor).st_size
        self._free(before - size)
        os.ftruncate(descriptor, size)
        self._dirtied(descriptor, min(size, before), max(size, before))

    def _dirtied(self, descriptor: int, start: int, end: int) -> None:
        """Note what the pages of a range hold now, and the size."""
        file, unit = self._open[descriptor], self._page_bytes
        for page in range(start // unit, -(-end // unit)):
            content = os.pread(descriptor, unit, page * unit).ljust(unit, b"\0")
            file.dirty.setdefault(page, []).append(content)
            file.lost.discard(page)
        size = os.fstat(descriptor).st_size
        if size != file.sizes[-1]:
            file.sizes.append(size)

    def _settle(self, file: _File, choose: Callable[[int], int]) -> bytes:
        """Choose what is on disk of `file`, make it durable, and return it."""
        size = file.sizes[choose(len(file.sizes))]
        for page, contents in sorted(file.dirty.items()):
            chosen = choose(len(contents) + 1)
            if chosen:
                file.durable[page] = contents[chosen - 1]
        file.dirty.clear()
        file.lost.clear()
        file.sizes = [size]
        data = bytearray(size)
        for page, content in file.durable.items():
            start = page * self._page_bytes
            data[start : start + self._page_bytes] = content[: max(0, size - start)]
        del data[size:]
        # What lies behind the end is gone, whatever a page held there.
        unit = self._page_bytes
        file.durable = {
            page: bytes(data[page * unit : (page + 1) * unit]).ljust(unit, b"\0") for page in range(-(-size // unit))
        }
        return bytes(data)


def _apply(names: dict[Path, _File | None], name: _Name) -> None:
    if name.source is not None:
        names.pop(name.source, None)
    if name.target is not None:
        names[name.target] = name.file


def any_of(rng: random.Random) -> Callable[[int], int]:
    """Return a choice for `power_loss`: all kept, nothing kept, or each by chance."""
    mood = rng.choice(("first", "last", "any", "any"))

    def choose(count: int) -> int:
        return 0 if mood == "first" else count - 1 if mood == "last" else rng.randrange(count)

    return choose
