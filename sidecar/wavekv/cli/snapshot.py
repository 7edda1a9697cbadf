"""`wavekv snapshot`: look into snapshots, a member's or the original system's; never change them.

Which of the two a file is, its first bytes say; the original system's is read whole, a member's block by block.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from wavekv.cli.progress import bar
from wavekv.cli.wal import describe, unreadable, words
from wavekv.core.codec.crate_snapshot import MAGIC as CRATE_MAGIC
from wavekv.core.codec.crate_snapshot import CrateSnapshot, decode_crate_snapshot
from wavekv.core.ops import storing
from wavekv.core.packed import unpack
from wavekv.core.types import Entry
from wavekv.errors import BadHeader, SnapshotDamaged
from wavekv.snapshot.blocks import MAGIC
from wavekv.snapshot.files import snapshot_number
from wavekv.snapshot.reading import Ends, check, entries
from wavekv.snapshot.verification import verify as verify_native
from wavekv.wal.crate import crate_node_id

_BEGINNING_BYTES: Final = 64
"""Where a snapshot of the original system has its magic, in each form it comes in."""


@click.group()
def snapshot() -> None:
    """Read snapshots offline, a member's or the original system's; nothing is ever changed."""


@snapshot.command()
@click.argument("file", type=click.Path(path_type=Path))
def verify(file: Path) -> None:
    """Check all of the snapshot FILE, entry by entry; exit code 4 if something does not hold."""
    with _readable(file), bar("verifying") as progress:
        facts = _native_facts(verify_native(file, progress)) if _is_native(file) else _crate_facts(_crate(file))
    click.echo(f"{file}: {', '.join(f'{name} {value}' for name, value in facts.items() if name != 'acks')}")
    click.echo("no damage")


@snapshot.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; the last one describes the whole.")
@click.argument("file", type=click.Path(path_type=Path))
def dump(file: Path, as_json: bool) -> None:
    """Print every entry of the snapshot FILE in key order, then what else is in it; exit code 4 if it is damaged."""
    file = file.resolve()
    with _readable(file):
        if _is_native(file):
            with bar("checking") as progress:  # all of it, before the first line is out
                facts = _native_facts(check(file, progress))
            held: Iterable[Entry] = (unpack(key, packed) for key, packed in entries(file))
        else:
            found = _crate(file)
            facts, held = _crate_facts(found), found.entries.values()
        for entry in held:
            fields = describe(storing(entry))
            del fields["op"]
            sys.stdout.write(f"{json.dumps(fields) if as_json else words(fields)}\n")
    sys.stdout.write((json.dumps({"end": facts}) if as_json else f"end: {words(facts)}") + "\n")


def _is_native(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC or snapshot_number(file.name) is not None


def _native_facts(ends: Ends) -> dict[str, Any]:
    head, tail = ends
    counts = {"entries": tail.entries, "tombstones": tail.entries - tail.values, "bytes": tail.size_bytes}
    context = tail.standing.context
    known = {"origins": len(context.acks), "ranges": context.range_count, "acks": _acks(context.acks)}
    return (
        {"kind": "native", "node_id": head.node_id, "number": head.number, "position": head.position} | counts | known
    )


def _crate(file: Path) -> CrateSnapshot:
    data = file.read_bytes()
    try:
        return decode_crate_snapshot(data, str(file), crate_node_id(file.name))
    except (BadHeader, SnapshotDamaged) as error:
        if CRATE_MAGIC in data[:_BEGINNING_BYTES]:
            raise
        neither = f"it begins neither with {MAGIC.decode()} nor as one of the original system"
        raise BadHeader(f"{file} is not a snapshot: {neither}") from error


def _crate_facts(found: CrateSnapshot) -> dict[str, Any]:
    entries = found.entries.values()
    tombstones = sum(entry.value is None for entry in entries)
    size_bytes = sum(len(entry.key.encode()) + len(entry.value or b"") for entry in entries)
    counts = {"entries": len(entries), "tombstones": tombstones, "bytes": size_bytes, "next_seq": found.next_seq}
    acks = _acks({peer: told.local_ack for peer, told in found.peers.items()})
    return {"kind": "crate", "node_id": found.node_id} | counts | {"peers": len(found.peers), "acks": acks}


def _acks(acks: Mapping[int, int]) -> dict[str, int]:
    return {str(origin): ack for origin, ack in sorted(acks.items())}


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads what is printed went away
    except OSError as error:
        raise unreadable(file, error) from error
