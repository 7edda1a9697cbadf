"""Directories of other versions: older ones open and lose nothing, newer ones refuse the start and stay as they are.

`tests/vectors/native/0.1.0` was written by that version's own code (commit aa3076b): two processes, the second one
killed, over three segments; `expected.json` is what its own recovery came to.
"""

import json
import random
import shutil
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.fakes.disk import PowerCut
from tests.fakes.log import HASTY
from tests.fakes.paged_disk import PagedDisk, any_of
from tests.fakes.paged_member import PagedMember
from wavekv.core.image import Image
from wavekv.core.loading import StoreLoader, loader_over
from wavekv.core.store import Store
from wavekv.errors import NewerVersion
from wavekv.snapshot.blocks import encode_block
from wavekv.snapshot.files import snapshots
from wavekv.wal.directory import FORMAT, FORMAT_SNAPSHOTS, open_directory
from wavekv.wal.recovery import Recovery, recover

VECTOR = Path(__file__).parents[2] / "vectors" / "native" / "0.1.0"
IDENTITY_FORMAT_KNOWN_TO_0_1_0 = 1
"""That version refuses, as of a newer one, an IDENTITY whose format is an integer above this, before any change."""


def start(path: Path) -> tuple[Store, Recovery]:
    directory = open_directory(
        path,
        node_id=None,
        cluster_id=None,
        now_ms=0,
        new_node_id=lambda: 1,
        new_uuid=lambda: uuid.UUID(int=1),
        disk=HASTY,
    )
    try:
        over: Callable[[Image | None], StoreLoader] = partial(loader_over, 1000)
        loader, recovery = recover(directory, over, HASTY)
        return loader.store(), recovery
    finally:
        directory.close()


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"}


def identity(path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((path / "IDENTITY").read_bytes())
    return fields


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(VECTOR / "data", tmp_path / "old"))


def test_a_directory_of_version_0_1_0_comes_to_what_that_version_made_of_it(old: Path) -> None:
    expected = json.loads((VECTOR / "expected.json").read_text())
    store, recovery = start(old)
    found = {
        key: {
            "value": None if entry.value is None else entry.value.hex(),
            "timestamp": entry.timestamp,
            "origin": entry.origin,
            "seq": entry.seq,
            "expires_at": entry.expires_at,
        }
        for key, entry in store.entries.items()
    }
    assert found == expected["entries"]
    assert {str(origin): ack for origin, ack in store.context.acks.items()} == expected["acks"]
    assert sorted(map(list, store.context.ranges())) == expected["ranges"]
    assert (store.floor, store.next_seq, list(store.process)) == (
        expected["floor"],
        expected["next_seq"],
        expected["process"],
    )
    assert (recovery.records, recovery.damage) == (expected["records"], None)
    assert identity(old) == {**expected["identity"], "boot_count": expected["identity"]["boot_count"] + 1}


def test_a_directory_that_was_never_compacted_stays_one_that_version_0_1_0_reads(old: Path) -> None:
    for _ in range(3):
        start(old)
    assert identity(old)["format"] == FORMAT == IDENTITY_FORMAT_KNOWN_TO_0_1_0


def test_a_directory_is_marked_durably_before_it_has_its_first_snapshot(tmp_path: Path) -> None:
    """Wherever the power goes in the first compaction: who finds a snapshot finds the mark, so 0.1.0 refuses."""
    marked = set()
    for calls in range(1, 200):
        root = tmp_path / str(calls)
        root.mkdir()
        rng = random.Random(calls)
        disk = PagedDisk(root, rng)
        member = PagedMember(disk, rng)
        member.replica.put("k", b"v", 1)
        member.commit()
        disk.cut_in = calls
        try:
            member.compact()
        except PowerCut:
            disk.power_loss(any_of(rng))
            member.directory.close()
        else:
            member.end()
            break
        marked.add((identity(root)["format"], bool(snapshots(root))))
    assert FORMAT_SNAPSHOTS > IDENTITY_FORMAT_KNOWN_TO_0_1_0
    assert marked == {(FORMAT, False), (FORMAT_SNAPSHOTS, False), (FORMAT_SNAPSHOTS, True)}
    assert (identity(root)["format"], len(snapshots(root))) == (FORMAT_SNAPSHOTS, 1)


# ---- newer than this one -------------------------------------------------------------------------------------------


@pytest.fixture
def compacted(tmp_path: Path) -> Path:
    """A directory with a snapshot, its base, and a log behind it."""
    root = tmp_path / "compacted"
    root.mkdir()
    rng = random.Random(1)
    member = PagedMember(PagedDisk(root, rng), rng)
    for at in range(3):
        member.replica.put(f"k{at}", b"v", 1)
        member.commit()
        if at < 2:
            assert member.compact()
    member.stop()
    assert [found.number for found in snapshots(root)] == [1, 2]
    return root


def with_unknown_operation(path: Path) -> None:
    op = b"\x10of a later version"
    body = b"\x20" + op + b"\xfc" + crc32(op).to_bytes(4, "little")
    newest = max(path.glob("*.wal"))
    newest.write_bytes(newest.read_bytes() + len(body).to_bytes(4, "little") + body)


def with_later_header(path: Path) -> None:
    newest = max(path.glob("*.wal"))
    raw = newest.read_bytes()
    assert raw[8] == 1
    newest.write_bytes(raw[:8] + b"\2" + raw[9:])


def with_later_snapshot(path: Path) -> None:
    newest = max(path.glob("*.snapshot"))
    newest.write_bytes(b"WKVS\2\0\0\0" + newest.read_bytes()[8:])


def with_unknown_block(path: Path) -> None:
    """The newest snapshot with a block of kind 6 behind its head, and all hashes anew."""
    newest = max(path.glob("*.snapshot"))
    raw = newest.read_bytes()
    out, at, digest = raw[:8], 8, 0
    while at < len(raw):
        kind, length = raw[at], int.from_bytes(raw[at + 1 : at + 5], "little")
        payload = raw[at + 13 : at + 13 + length]
        frame, digest = encode_block(kind, payload, digest)
        out += frame + payload
        at += 13 + length
        if kind == 1:
            frame, digest = encode_block(6, b"\x80", digest)
            out += frame + b"\x80"
    newest.write_bytes(out)


def with_later_identity(path: Path) -> None:
    (path / "IDENTITY").write_text(json.dumps({**identity(path), "format": FORMAT_SNAPSHOTS + 1, "later": True}))


@pytest.mark.parametrize(
    "change", [with_unknown_operation, with_later_header, with_later_snapshot, with_unknown_block, with_later_identity]
)
def test_what_a_newer_version_wrote_refuses_the_start_and_stays_as_it_was(
    compacted: Path, change: Callable[[Path], None]
) -> None:
    change(compacted)
    before = content(compacted)
    with pytest.raises(NewerVersion, match="newer"):
        start(compacted)
    assert content(compacted) == before


def test_the_changes_above_are_what_refuses(compacted: Path) -> None:
    store, recovery = start(compacted)
    assert sorted(store.packed) == ["k0", "k1", "k2"]
    assert (recovery.snapshot, recovery.damage) == (2, None)


def test_an_operation_of_a_newer_version_in_a_closed_segment_refuses_too(tmp_path: Path, old: Path) -> None:
    first = old / "00000001.wal"
    op = b"\x10of a later version"
    body = b"\x20" + op + b"\xfc" + crc32(op).to_bytes(4, "little")
    first.write_bytes(first.read_bytes() + len(body).to_bytes(4, "little") + body)
    before = content(old)
    with pytest.raises(NewerVersion):
        start(old)
    assert {**content(old), "IDENTITY": b""} == {**before, "IDENTITY": b""}
