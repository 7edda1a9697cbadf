"""Files of a volume made of an input, read as a start reads them.

An input that had to find the checksums would get no further than those, so they are made here: a snapshot of an input's
blocks has hashes that hold, a segment of its records has checksums that do.
"""

import os
import struct
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final
from zlib import crc32

from tests.fakes.disk import HastyDisk
from tests.fakes.log import NODE_ID
from wavekv.core.codec.bincode import varint
from wavekv.core.codec.records import decode_header, encode_header
from wavekv.core.loading import loader_over
from wavekv.core.ops import Op
from wavekv.errors import StorageError, WaveKVError
from wavekv.snapshot.blocks import PREAMBLE, encode_block
from wavekv.snapshot.bounds import HeldBounds
from wavekv.snapshot.reading import check, load
from wavekv.snapshot.verification import verify
from wavekv.wal.contents import read_directory
from wavekv.wal.directory import DataDirectory, open_directory
from wavekv.wal.recovery import recover, settle
from wavekv.wal.segment import Reader, Sequences, read_header, replay

HELD: Final = HeldBounds(10_000, 1 << 20)
NAMES: Final = (
    "IDENTITY",
    "00000001.wal",
    "00000002.wal",
    "00000003.wal",
    "00000001.snapshot",
    "00000002.snapshot",
    "CONVERTING",
    "node_1.wal",
    "node_1.snapshot",
    "node_1.snapshot.bak",
    "quarantine/0001/plan.json",
    "quarantine/0001/untold.json",
    "00000002.spare.tmp",
    "RESERVE",
    "LOCK",
    "crate/CONVERTED",
)
_FOLDER: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_HASTY: Final = HastyDisk()
_length_at = struct.Struct("<H").unpack_from


def pieces_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield `(kind, content)` of the pieces in an input: a byte, a length of two, and so much or what is left."""
    at = 0
    while at + 3 <= len(data):
        kind, (length,) = data[at], _length_at(data, at + 1)
        yield kind, data[at + 3 : at + 3 + length]
        at += 3 + length


def joined(pieces: list[tuple[int, bytes]]) -> bytes:
    """Return the input whose pieces these are."""
    return b"".join(bytes((kind,)) + struct.pack("<H", len(content)) + content for kind, content in pieces)


def snapshot_bytes(data: bytes) -> bytes:
    """Return a snapshot whose blocks are the pieces of an input, with hashes that hold."""
    content, digest = PREAMBLE, 0
    for kind, payload in pieces_of(data):
        frame, digest = encode_block(kind, payload, digest)
        content += frame + payload
    return content


def segment_bytes(data: bytes) -> bytes:
    """Return a segment whose records are the pieces of an input, with checksums that hold, but for kind 255."""
    content, number = encode_header(NODE_ID, 0), 0
    for kind, op in pieces_of(data):
        if kind == 255:
            content += op
            continue
        number += 1
        body = varint(number + (kind if kind > 250 else 0)) + op + varint(crc32(op))
        content += struct.pack("<I", len(body)) + body
    return content


def read_segment(data: bytes) -> None:
    """Read a segment in all three ways; they have to come to the same."""
    content = segment_bytes(data[1:]) if data[:1] == b"\1" else data[1:]
    try:
        header = read_header(content, "segment")
    except WaveKVError:
        return
    if header is None:
        return
    plain: list[Op] = []
    reader = Reader(content, decode_header(content))
    one_by_one = [located.record.op for located in reader]
    scan = replay(content, header, plain.append, Sequences())
    assert (plain, scan.damage) == (one_by_one, reader.damage), "two readers of one segment differ"
    loader = loader_over(100, None)
    folded = replay(content, header, loader.apply, Sequences(last=None), stored=loader.stored, fold=loader.stored_run)
    assert (folded.records, folded.damage) == (scan.records, scan.damage), "a replay by runs differs"
    loader.store()


def read_snapshot(data: bytes) -> None:
    """Load a snapshot; one that a load takes is one that a store is made of."""
    content = snapshot_bytes(data[1:]) if data[:1] == b"\1" else data[1:]
    with tempfile.NamedTemporaryFile(dir=_FOLDER, suffix=".snapshot") as file:
        file.write(content)
        file.flush()
        path = Path(file.name)
        try:
            _, image = load(path, held=HELD)
        except StorageError:
            for read in (check, verify):
                try:
                    read(path)
                except StorageError:
                    continue
            return
        loader_over(100, image).store()


def _opened(path: Path) -> DataDirectory:
    facts = {"node_id": None, "cluster_id": None, "now_ms": 0, "disk": _HASTY}
    return open_directory(path, new_node_id=lambda: NODE_ID, new_uuid=lambda: uuid.UUID(int=1), **facts)  # type: ignore[arg-type]


def open_volume(data: bytes) -> None:
    """Open a directory whose files are the pieces of an input, recover it twice, and read it as the tools do."""
    with tempfile.TemporaryDirectory(dir=_FOLDER) as folder:
        path = Path(folder)
        for kind, content in pieces_of(data):
            file = path / NAMES[kind % len(NAMES)]
            file.parent.mkdir(parents=True, exist_ok=True)
            made = content
            if file.suffix == ".snapshot" and file.name[0] == "0" and content[:1] == b"\1":
                made = snapshot_bytes(content[1:])
            elif file.suffix == ".wal" and content[:1] == b"\1":
                made = segment_bytes(content[1:])
            file.write_bytes(made)
        try:
            for _ in range(2):
                with closing(_opened(path)) as directory:
                    loader, _recovery = recover(directory, partial(loader_over, 100), _HASTY, held=HELD)
                    loader.store()
                    settle(directory, _HASTY)
            read_directory(path)
        except WaveKVError as error:
            if error.code in {"internal", "disk_failed"}:
                raise
