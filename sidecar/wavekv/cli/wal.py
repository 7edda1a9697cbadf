"""`wavekv wal`: look into log files, of a stopped member, a running one, or the original system; never change them.

A file is read whole, then shown record by record. Turned down: mapping it, because a member that cuts its segment on
a clean stop would end the reader by a signal.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from wavekv.cli.data import visible
from wavekv.cli.progress import bar
from wavekv.core import ops
from wavekv.core.codec.records import Header
from wavekv.core.types import Entry
from wavekv.errors import BadHeader, Corruption, NewerVersion, SnapshotDamaged, StorageError
from wavekv.snapshot.blocks import Progress
from wavekv.snapshot.files import snapshots
from wavekv.snapshot.reading import check
from wavekv.wal.crate import crate_header, crate_node_id, find_crate_files
from wavekv.wal.directory import IDENTITY, decode_identity
from wavekv.wal.reading import NOTHING, Folded, Replayed, read_log, replay_segment
from wavekv.wal.segment import Cause, Damage, Reader, read_header, segment_number

_VALUE_SHOWN_MAX = 32
EXIT_CORRUPT: Final = Corruption.exit_code
_UNMARKED = "the original system marks nothing that would tell whether what lies behind was durable"
_TORN = "the last append was cut by a crash, or is being written now; it was never acknowledged"
_PLAIN: dict[type[ops.Op], tuple[str, ...]] = {
    ops.Clear: ("clear", "key"),
    ops.UpdatePeerAck: ("update_peer_ack", "peer_id", "ack_seq", "monotonic"),
    ops.UpdateLocalAck: ("update_local_ack", "peer_id", "ack_seq", "monotonic"),
    ops.IncrementSeq: ("increment_seq",),
    ops.SetNextSeq: ("set_next_seq", "seq"),
    ops.AddPeer: ("add_peer", "peer_id"),
    ops.RemovePeer: ("remove_peer", "peer_id"),
    ops.Cover: ("cover", "origin", "from", "to"),
    ops.Floor: ("floor", "timestamp"),
    ops.Promise: ("promise", "timestamp"),
    ops.DropOrigins: ("drop_origins", "horizon", "origins"),
    ops.Process: ("process", "inc", "origin", "healing"),
}
"""Operations of plain fields: name, then the fields' names in their order."""


@click.group()
def wal() -> None:
    """Read log files offline; nothing is ever changed."""


@wal.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; the last one describes the end.")
@click.argument("file", type=click.Path(path_type=Path))
def dump(file: Path, as_json: bool) -> int:
    """Print every record of the log FILE, up to its end or its first damage; exit code 4 on corruption."""
    data = _read(file)
    try:
        reader = Reader(data, _header(data, file))
    except NewerVersion as error:
        raise BadHeader(error.detail) from error
    count = groups = 0
    for offset, _, record in reader:
        fields = describe(record.op)
        if as_json:
            sys.stdout.write(json.dumps({"sequence": record.sequence} | fields) + "\n")
        else:
            sys.stdout.write(f"{offset:>10}  {record.sequence:>8}  {line(fields)}\n")
        count += 1
        groups += isinstance(record.op, ops.SetNextSeq)
    damage = reader.damage
    if as_json:
        end = {"records": count, "valid_bytes": reader.valid_end, "damage": damage and damage.cause.value}
        sys.stdout.write(json.dumps({"end": end}) + "\n")
    else:
        sys.stdout.write(f"end: {count} records, {reader.valid_end} valid bytes, damage: {_cause(damage)}\n")
    return _exit_code(damage, marked=_marked(file, groups))


@wal.command()
@click.argument("path", type=click.Path(path_type=Path))
def verify(path: Path) -> int:
    """Check a log file, or all snapshots and segments of a data directory; exit code 4 on corruption.

    Logs of the original system, node_{id}.wal, are checked as well.
    """
    file = _single_log(path)
    broken: list[SnapshotDamaged] = []
    sound: list[str] = []
    with bar("verifying") as progress:
        log = _replayed_directory(path, sound, broken, progress) if file is None else _replayed_file(file)
    sequences = log.sequences
    checked = f"{'; '.join(sound)}; behind {'it' if len(sound) == 1 else 'the oldest'} " if sound else ""
    click.echo(f"{path}: {checked}{log.records} records in {log.groups} groups")
    click.echo(f"sequences: {sequences.gaps} gaps, {sequences.duplicates} repeated, {sequences.disorder} out of order")
    for snapshot in broken:
        click.echo(f"corruption: {snapshot.detail}")
    if log.corrupt is not None:
        click.echo(f"corruption: {log.corrupt.cause}; what lies behind it was durable once")
    if broken or log.corrupt is not None:
        return EXIT_CORRUPT
    if log.unused is not None:
        click.echo(f"torn tail: {log.unused.name} ends inside its header; nothing was ever written to it")
    elif log.torn is None:
        click.echo("no damage")
    elif _exit_code(log.torn, marked=file is None or _marked(file, log.groups)):
        click.echo(f"corruption: {_cause(log.torn)}; {_UNMARKED}")
        return EXIT_CORRUPT
    else:
        click.echo(f"torn tail: {_cause(log.torn)}; {_TORN}")
    return 0


def _marked(file: Path, groups: int) -> bool:
    """Tell whether the log's writer marked group starts, so that a bad record without one behind it is a torn tail.

    Ours does, and the original system does not. Under a name that tells neither, a log without any mark is its.
    """
    return not crate_node_id(file.name) and (segment_number(file.name) is not None or groups > 0)


def _exit_code(damage: Damage | None, *, marked: bool) -> int:
    if damage is None:
        return 0
    if damage.cause is Cause.UNKNOWN_OP:
        return NewerVersion.exit_code
    torn = damage.group_start is None and (marked or damage.cause is Cause.TORN_TAIL)
    return 0 if torn else EXIT_CORRUPT


def describe(op: ops.Op) -> dict[str, Any]:
    """Return name and fields of `op`, ready for JSON; values in hex."""
    match op:
        case ops.Set(entry):
            return {"op": "set"} | _stored(entry)
        case ops.SetExpiring(entry):
            return {"op": "set_expiring"} | _stored(entry) | {"expires_at": entry.expires_at}
        case ops.PushPeerLog(peer, entry, max_entries):
            held = {"key": entry.key, "node": entry.origin, "seq": entry.seq, "ts": entry.timestamp}
            logged = held | {"value": _hex(entry.value)}
            return {"op": "push_peer_log", "peer_id": peer, "entry": logged, "max_entries": max_entries}
        case ops.Batch(inner):
            return {"op": "batch", "ops": [describe(one) for one in inner]}
    name, *fields = _PLAIN[type(op)]
    return {"op": name} | dict(zip(fields, op, strict=True))


def _stored(entry: Entry) -> dict[str, Any]:
    dot = {"node": entry.origin, "seq": entry.seq}
    return {"key": entry.key, "value_hex": _hex(entry.value)} | dot | {"timestamp": entry.timestamp}


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def line(fields: dict[str, Any]) -> str:
    """Return one readable line: the name of the operation, then its fields."""
    if "ops" in fields:
        return " | ".join(["batch", *map(line, fields["ops"])])
    flat = {**fields, **fields.get("entry", {})}
    name = flat.pop("op")
    flat.pop("entry", None)
    return f"{name} {words(flat)}" if flat else str(name)


def words(fields: dict[str, Any]) -> str:
    """Return `field=value` for each, long values cut short."""
    found = []
    for name, value in fields.items():
        if name in ("value", "value_hex"):
            found.append("tombstone" if value is None else f"value={_short(value)}")
        else:
            found.append(f"{name}={visible(value) if isinstance(value, str) else value}")
    return " ".join(found)


def _short(digits: str) -> str:
    if len(digits) <= 2 * _VALUE_SHOWN_MAX:
        return digits
    return f"{digits[: 2 * _VALUE_SHOWN_MAX]}… ({len(digits) // 2} bytes)"


def _cause(damage: Damage | None) -> str:
    return "none" if damage is None else f"{damage.cause} at {damage.offset}"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error


def unreadable(file: Path, error: OSError) -> StorageError:
    """Return the error for a named file that cannot be read."""
    if isinstance(error, IsADirectoryError):
        return StorageError(f"{file} is a directory: name a file in it, or check all of it: wavekv wal verify {file}")
    return StorageError(f"cannot read {file}: {error.strerror}")


def _header(data: bytes, file: Path) -> Header:
    node_id = crate_node_id(file.name)
    # Whoever names a file may have meant another: no advice to move this one away.
    header = read_header(data, str(file), "") if node_id is None else crate_header(data, file, node_id, "")
    if header is None:
        raise BadHeader(f"{file} ends inside its header: nothing was ever written to it")
    return header


def _replayed_file(file: Path) -> Replayed:
    log = Replayed()
    replay_segment(log, 1, file, _header(_read(file), file), last=True, apply=lambda _: None)
    return log


def _replayed_directory(
    directory: Path, sound: list[str], broken: list[SnapshotDamaged], progress: Progress
) -> Replayed:
    """Check every snapshot and all of the log behind the oldest that holds.

    `sound` gets a description of each that does, newest first, `broken` what is wrong with each that does not.
    """
    identity = directory / IDENTITY
    if not identity.exists() and not any(segment_number(file.name) for file in directory.iterdir()):
        raise StorageError(
            f"{directory} is no data directory: it holds neither IDENTITY nor a segment, nor a log of the original "
            "system; name one"
        )
    node_id = decode_identity(_read(identity), str(identity)).node_id if identity.exists() else None
    try:
        behind = NOTHING
        for number, path in reversed(snapshots(directory)):
            try:
                ends = check(path, progress)
                behind = Folded(number, ends.head.position)
                sound.append(f"snapshot {number} with {ends.tail.entries} entries")
            except SnapshotDamaged as error:
                broken.append(error)
        return read_log(directory, node_id, lambda _: None, behind=behind)
    except OSError as error:
        raise StorageError(f"cannot read {error.filename}: {error.strerror}") from error


def _single_log(path: Path) -> Path | None:
    """Return the one file to check; None where `path` is a directory that segments are looked for in."""
    if not path.is_dir():
        return path
    crate = None if (path / IDENTITY).exists() else find_crate_files(path)
    return crate.file("wal") if crate else None
