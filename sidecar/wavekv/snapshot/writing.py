"""How a snapshot is written: entries in key order stream in, and it has its name once all of it is on disk.

Memory does not grow with the entries: a block of them, the dots being sorted (`dots`) and the standing are all that is
held. Whatever happens before the rename, no snapshot is there and none is harmed.
"""

import struct
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgpack

from wavekv.config import SnapshotSettings
from wavekv.core.digest import BUCKETS, tally
from wavekv.core.packed import FACTS_BYTES, HAS_EXPIRY, HAS_VALUE, KIND_AT, dot_of, value_bytes
from wavekv.core.standing import Standing
from wavekv.core.types import U32_MAX
from wavekv.disk import Disk, create, write_all
from wavekv.snapshot.blocks import (
    DOTS,
    ENTRIES,
    EXPIRING,
    HEAD,
    PREAMBLE,
    TAIL,
    Head,
    Tail,
    encode_block,
    encode_head,
    encode_tail,
)
from wavekv.snapshot.dots import DotSorter, columns, pack_record, to_little
from wavekv.snapshot.files import dots_path, partial_path

DEFAULTS: Final = SnapshotSettings()
_expires_at = struct.Struct("<q").unpack_from
_MASK: Final = 2**64 - 1


class Writer:
    """Writes the snapshot `path`. To be left by `with`, which removes what is unfinished.

    Raises (every method):
        OSError: as the system says; there is no new snapshot, unless only the last sync of the directory failed.
    """

    def __init__(self, disk: Disk, path: Path, head: Head, settings: SnapshotSettings = DEFAULTS) -> None:
        self._disk = disk
        self._path = path
        self._settings = settings
        self._partial = partial_path(path)
        self._keys: list[str] = []
        self._blobs: list[bytes] = []
        self._pending_bytes = 0
        self._last = ""
        self._count = self._values = self._size_bytes = 0
        self._sums = [0] * BUCKETS
        self._expires_at, self._expiring = array("q"), array("I")
        self._sorter = DotSorter(disk, dots_path(path), settings.sort_dots_max)
        self._blocks = self._digest = self._written = self._synced = 0
        self._descriptor: int | None = create(disk, self._partial)
        try:
            self._write(PREAMBLE)
            self._block(HEAD, encode_head(head))
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._discard()

    def add(self, key: str, packed: bytes) -> None:
        """Take the next entry; its key sorts behind all before it."""
        self.extend(((key, packed),))

    def extend(self, entries: Iterable[tuple[str, bytes]]) -> None:
        """Take the next entries. One loop over local names: a million calls of `add` take two seconds."""
        entries_max, bytes_max = self._settings.block_entries_max, self._settings.block_bytes_max
        keys, blobs, pending = self._keys, self._blobs, self._pending_bytes
        last = self._last if self._count or keys else None
        for key, packed in entries:
            assert last is None or key > last, "entries come in key order"
            self._last = last = key
            keys.append(key)
            blobs.append(packed)
            pending += len(key) + len(packed)
            if len(keys) >= entries_max or pending >= bytes_max:
                self._flush()
                keys, blobs, pending = self._keys, self._blobs, 0
        self._pending_bytes = pending

    def finish(self, standing: Standing) -> Tail:
        """Write what is left and give the file its name, durably; return what it came to."""
        self._flush()
        self._flush_expiring()
        for records in self._sorter.chunks(self._settings.dots_block_max):
            self._block(DOTS, _packb(columns(records)))
        sums = tuple(total & _MASK for total in self._sums)
        tail = Tail(self._count, self._values, self._size_bytes, sums, standing, self._blocks + 1)
        self._block(TAIL, encode_tail(tail))
        assert self._descriptor is not None, "a snapshot is finished once"
        self._disk.sync(self._descriptor)
        self._disk.close(self._descriptor)
        self._descriptor = None
        self._sorter.close()
        self._disk.rename(self._partial, self._path)
        self._disk.sync_dir(self._path.parent)
        return tail

    def _flush(self) -> None:
        """Write the entries held as one block, and account for them."""
        keys, blobs = self._keys, self._blobs
        if not keys:
            return
        self._keys, self._blobs, self._pending_bytes = [], [], 0
        flat: list[Any] = [None] * (2 * len(keys))
        flat[0::2], flat[1::2] = keys, blobs
        self._block(ENTRIES, _packb(flat))
        place = self._count
        self._count += len(keys)
        assert self._count <= U32_MAX, "places are 32 bits wide"
        self._sorter.add([pack_record(*dot_of(blob), at) for at, blob in enumerate(blobs, place)])
        tally(self._sums, keys, blobs)
        kinds = [blob[KIND_AT] for blob in blobs]
        self._values += sum(kind & HAS_VALUE for kind in kinds)
        self._size_bytes += len("".join(keys).encode()) + sum(map(value_bytes, blobs))
        if max(kinds) & HAS_EXPIRY:
            for at, blob in enumerate(blobs, place):
                if blob[KIND_AT] & HAS_EXPIRY:
                    self._expires_at.append(_expires_at(blob, FACTS_BYTES)[0])
                    self._expiring.append(at)
        if len(self._expiring) >= self._settings.dots_block_max:
            self._flush_expiring()

    def _flush_expiring(self) -> None:
        if self._expiring:
            self._block(EXPIRING, _packb([to_little(self._expires_at), to_little(self._expiring)]))
            self._expires_at, self._expiring = array("q"), array("I")

    def _block(self, kind: int, payload: bytes) -> None:
        frame, self._digest = encode_block(kind, payload, self._digest)
        self._write(frame + payload)
        self._blocks += 1

    def _write(self, data: bytes) -> None:
        assert self._descriptor is not None, "nothing follows the tail"
        write_all(self._disk, self._descriptor, data, self._written)
        self._written += len(data)
        if self._written - self._synced >= self._settings.sync_bytes:
            self._disk.sync(self._descriptor)
            self._synced = self._written

    def _discard(self) -> None:
        """Remove the temporaries of a snapshot that was not finished; what cannot be removed is swept later."""
        with suppress(OSError):
            self._sorter.close()
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):
                self._disk.close(descriptor)
        if self._partial.exists():
            with suppress(OSError):
                self._disk.unlink(self._partial)


def _packb(value: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
