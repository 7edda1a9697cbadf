"""How a directory of the original system becomes ours, in steps that a crash between any two cannot spoil.

1. `CONVERTING` names the crate's files and says what they came to. With it, segments in here are half-made ones.
2. The segments are written and synced.
3. `IDENTITY` takes its place: from here on the directory is ours, and what was read is not read again.
4. The crate's files move, unchanged, into the folder `crate`, and `CONVERTING` after them, as `crate/CONVERTED`.

Before 3 the next start begins anew, behind it the next start goes on with 4. The crate's files are never written to
and never deleted by us: whoever goes back takes them from the folder.

Turned down: segments in a folder of their own that is renamed; several names cannot change at once, so the marker
would be needed all the same.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from wavekv.config import VOLUME_LIMITS
from wavekv.core.codec.records import encode_group, encode_header
from wavekv.core.ops import Floor, Op, Process, Set, UpdateLocalAck
from wavekv.core.types import I64_MIN
from wavekv.disk import Disk, replace_file, write_synced
from wavekv.errors import Corruption
from wavekv.volume import is_folder, parse_json, read_file
from wavekv.wal.crate import CrateFiles, CrateState, is_crate_name
from wavekv.wal.segment import segment_name, segment_number

MARKER: Final = "CONVERTING"
FOLDER: Final = "crate"
_REPORT: Final = "CONVERTED"
GROUP_BYTES_MAX: Final = 1 << 20
"""Key and value bytes of a group, one entry more at most."""
GROUP_OPS_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was read and what it came to; `damage` is None where nothing durable was lost (`CrateState`)."""

    node_id: int
    files: tuple[str, ...]
    base: str
    records: int
    entries: int
    cut_bytes: int
    damage: str | None


def convert(
    files: CrateFiles,
    state: CrateState,
    identity_file: Path,
    identity: bytes,
    *,
    now_ms: int,
    segment_bytes_max: int,
    disk: Disk,
) -> None:
    """Take steps 1 to 3 for what `files` came to; `identity` is what `identity_file` has to hold.

    Raises:
        OSError: as the system says; the next start begins anew.
    """
    path = files.path
    facts = (state.base, state.records, len(state.entries), state.cut_bytes, state.damage)
    conversion = Conversion(state.node_id, files.names, *facts)
    replace_file(disk, path / MARKER, json.dumps(asdict(conversion), indent=1).encode() + b"\n")
    for leftover in sorted(path.iterdir()):
        if segment_number(leftover.name) is not None:
            disk.unlink(leftover)
    for number, content in enumerate(_segments(state, now_ms, segment_bytes_max), start=1):
        write_synced(disk, path / segment_name(number), content)
    disk.sync_dir(path)
    replace_file(disk, identity_file, identity)


def finish_conversion(path: Path, disk: Disk) -> None:
    """Take step 4, where it was not taken to its end.

    Raises:
        Corruption: the marker cannot be read.
        OSError: as the system says; the next start carries on.
    """
    marker = path / MARKER
    if not marker.exists():
        return
    conversion = decode_conversion(read_file(marker, VOLUME_LIMITS.document_bytes_max), str(marker))
    folder = path / FOLDER
    if not is_folder(folder):
        disk.mkdir(folder)
    disk.sync_dir(path)
    for name in conversion.files:
        if (path / name).exists():
            disk.rename(path / name, folder / name)
    disk.sync_dir(folder)
    disk.sync_dir(path)
    disk.rename(marker, folder / _REPORT)
    disk.sync_dir(folder)
    disk.sync_dir(path)


def read_conversion(path: Path) -> Conversion | None:
    """Return how the directory at `path` was converted, None for one that never was.

    Raises:
        Corruption: the record of it cannot be read.
        OSError: as the system says.
    """
    report = path / FOLDER / _REPORT
    if not is_folder(report.parent) or not os.path.lexists(report):
        return None
    return decode_conversion(read_file(report, VOLUME_LIMITS.document_bytes_max), str(report))


def decode_conversion(data: bytes, name: str) -> Conversion:
    """Read the content of the marker.

    Raises:
        Corruption: it is not what `convert` writes.
    """
    try:
        fields = parse_json(data)
        files = tuple(fields["files"])
        if not all(isinstance(file, str) and is_crate_name(file) for file in files):  # they are moved by these names
            raise ValueError("files that are none of the original system's")
        conversion = Conversion(**{**fields, "files": files})
        numbers = (conversion.node_id, conversion.records, conversion.entries, conversion.cut_bytes)
        texts = (conversion.base, conversion.damage or "")
        if any(type(number) is not int for number in numbers) or any(not isinstance(text, str) for text in texts):
            raise ValueError("a field has the wrong type")
        return conversion
    except (ValueError, TypeError, KeyError) as error:
        raise Corruption(f"{name} is damaged ({error}); restore the directory from a copy") from error


def _segments(state: CrateState, now_ms: int, segment_bytes_max: int) -> Iterator[bytes]:
    """Yield the content of each segment: a log of ours that comes to `state`."""
    sequence = 1
    content = bytearray(encode_header(state.node_id, now_ms))
    for ops in _groups(state):
        if len(content) >= segment_bytes_max:
            yield bytes(content)
            content = bytearray(encode_header(state.node_id, now_ms))
        group, records = encode_group(ops, sequence, state.next_seq)
        content += group
        sequence += records
    yield bytes(content)


def _groups(state: CrateState) -> Iterator[list[Op]]:
    # A process under the node id, so that no later one writes under it (R7). It sets the next sequence back to 1, and
    # the groups behind it, of which there is one at least, say which it is.
    yield [Process(1, state.node_id, False)]
    ops: list[Op] = []
    size = 0
    for entry in state.entries.values():
        ops.append(Set(entry))
        size += len(entry.key) + len(entry.value or b"")
        if size >= GROUP_BYTES_MAX or len(ops) >= GROUP_OPS_MAX:
            yield ops
            ops, size = [], 0
    for origin, ack in sorted(state.acks.items()):  # behind the entries that they cover (R2)
        if ack:
            ops.append(UpdateLocalAck(origin, ack))
        if len(ops) >= GROUP_OPS_MAX:
            yield ops
            ops = []
    if state.floor != I64_MIN:
        ops.append(Floor(state.floor))
    yield ops
