"""Snapshots: their bytes, what damage comes to, and what a stop or failure leaves of one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.fakes.disk import BROKEN, FULL, FaultDisk, HastyDisk, PowerCut, fail_on
from tests.fakes.snapshots import TINY, facts, head, standing_of, write_snapshot
from wavekv.config import SnapshotSettings
from wavekv.core.ops import DropOrigins, Process, Promise
from wavekv.core.packed import pack
from wavekv.core.standing import Standing
from wavekv.core.types import Entry
from wavekv.errors import NewerVersion, SnapshotDamaged
from wavekv.snapshot import blocks
from wavekv.snapshot.blocks import DOTS, ENTRIES, EXPIRING, HEAD, PREAMBLE, TAIL, encode_block, encode_head
from wavekv.snapshot.files import newest, snapshot_name, snapshot_number, snapshots, sweep
from wavekv.snapshot.reading import check, entries, load, read_head
from wavekv.snapshot.verification import verify
from wavekv.snapshot.writing import Writer

EXAMPLE = (
    Entry("a", b"1", 100, 1, 1),
    Entry("k", None, -1, 2, 251),
    Entry("s", b"x", 200, 1, 2, 1_700_000_060_000),
)
MANY = tuple(Entry(f"key-{n:02}", bytes([n]) * n, n, 1 + n % 3, 40 - n, 9 if n % 4 == 0 else None) for n in range(23))


def example_standing() -> Standing:
    standing = standing_of(EXAMPLE)
    standing.process, standing.next_seq = Process(7, 1, False), 3
    return standing


@pytest.fixture
def example(tmp_path: Path) -> Path:
    return write_snapshot(tmp_path, EXAMPLE, example_standing())[0]


# ---- bytes ---------------------------------------------------------------------------------------------------------


def test_the_worked_example_of_the_format_document_is_what_is_written(example: Path) -> None:
    document = (Path(__file__).parents[3] / "docs" / "format.md").read_text()
    told = document.partition("## Worked example of a snapshot")[2].split("```")[1]
    assert example.read_bytes() == bytes.fromhex("".join(line.split()[0] for line in told.strip("\n").splitlines()))


def test_blocks_end_at_their_bounds_and_one_entry_always_fits(tmp_path: Path) -> None:
    big = [Entry(f"big-{n}", bytes(1000), 1, 1, n + 1) for n in range(2)]
    path, _ = write_snapshot(tmp_path, [*MANY[:4], *big], standing_of(MANY), settings=TINY)
    sizes = [len(payload) // 2 for kind, payload in parts(path) if kind == ENTRIES]
    assert sizes == [1, 1, 3, 1]


def test_a_snapshot_of_nothing_is_whole(tmp_path: Path) -> None:
    path, tail = write_snapshot(tmp_path, [], Standing())
    _, image = load(path)
    assert (image.packed, image.keys, image.dots, tail.blocks) == ({}, [], [], 2)
    assert verify(path).tail.entries == 0


def test_keys_out_of_order_are_never_written(tmp_path: Path) -> None:
    with Writer(HastyDisk(), tmp_path / snapshot_name(1), head(1)) as writer:
        writer.add("b", pack(EXAMPLE[0]))
        with pytest.raises(AssertionError):
            writer.add("b", pack(EXAMPLE[0]))


def test_progress_ends_at_the_size_of_the_file(example: Path) -> None:
    for read in (load, check, verify):
        told: list[tuple[int, int]] = []
        read(example, lambda done, total, told=told: told.append((done, total)))
        assert told == sorted(told)
        assert told[-1] == (example.stat().st_size,) * 2


# ---- damage --------------------------------------------------------------------------------------------------------


def test_one_flipped_bit_anywhere_refuses_the_snapshot(example: Path) -> None:
    content = example.read_bytes()
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        example.write_bytes(damaged)
        for read in (load, check, lambda path: list(entries(path))):
            with pytest.raises((SnapshotDamaged, NewerVersion)):
                read(example)


def test_a_snapshot_cut_at_any_byte_is_damaged(example: Path) -> None:
    content = example.read_bytes()
    for size in range(len(content)):
        example.write_bytes(content[:size])
        for read in (load, check, verify, lambda path: list(entries(path))):
            with pytest.raises(SnapshotDamaged):
                read(example)


def test_bytes_behind_the_tail_are_damage(example: Path) -> None:
    example.write_bytes(example.read_bytes() + b"\0")
    with pytest.raises(SnapshotDamaged, match="follow its tail"):
        load(example)


def test_blocks_of_two_snapshots_do_not_mix(tmp_path: Path) -> None:
    first, _ = write_snapshot(tmp_path, EXAMPLE, example_standing(), about=head(1))
    second, _ = write_snapshot(tmp_path, EXAMPLE, example_standing(), about=head(2))
    ours, theirs = first.read_bytes(), second.read_bytes()
    assert len(ours) == len(theirs)
    first.write_bytes(ours[:150] + theirs[150:])
    with pytest.raises(SnapshotDamaged):
        load(first)


def parts(path: Path) -> list[tuple[int, Any]]:
    """Return the blocks of a snapshot as kinds and values."""
    with path.open("rb") as file:
        return [(block.kind, msgpack.unpackb(block.payload)) for block in blocks.read_blocks(file, path)]


def assemble(path: Path, blocks_in: list[tuple[int, Any]]) -> None:
    """Write a snapshot of these blocks, with hashes that hold."""
    content, digest = PREAMBLE, 0
    for kind, value in blocks_in:
        payload = value if isinstance(value, bytes) else msgpack.packb(value)
        frame, digest = encode_block(kind, payload, digest)
        content += frame + payload
    path.write_bytes(content)


def _swap_kinds(held: list[tuple[int, Any]]) -> None:
    held[1], held[3] = held[3], held[1]


def _set_of(place: int, **fields: Any) -> Callable[[list[tuple[int, Any]]], None]:
    return lambda held: held[place][1].update(fields)


@pytest.mark.parametrize(
    "change",
    [
        _swap_kinds,
        lambda held: held.pop(0),
        lambda held: held.insert(1, held[0]),
        lambda held: held.pop(1),
        lambda held: held.pop(3),
        lambda held: held.insert(1, held[1]),
        lambda held: held.__setitem__(0, (HEAD, b"\xc1")),
        lambda held: held.__setitem__(1, (ENTRIES, [])),
        lambda held: held.__setitem__(1, (ENTRIES, [*held[1][1], "t"])),
        lambda held: held.__setitem__(1, (ENTRIES, {"a": 1})),
        lambda held: held.__setitem__(1, (ENTRIES, 7)),
        lambda held: held.__setitem__(2, (EXPIRING, [b"1234567", b"1234"])),
        lambda held: held.__setitem__(3, (DOTS, [1, b"12345678", b""])),
        lambda held: held[3][1].__setitem__(2, b"\3\0\0\0\0\0\0\0"),  # a place behind the last entry
        lambda held: held.__setitem__(4, (TAIL, [])),
        _set_of(0, node_id=0),
        _set_of(0, uuid=b"short"),
        _set_of(0, cluster_id=7),
        _set_of(0, position=True),
        _set_of(4, entries=2),
        _set_of(4, blocks=4),
        _set_of(4, buckets=[0] * 63),
        _set_of(4, acks=[1]),
        _set_of(4, acks=["1", 2]),
        _set_of(4, dots=[1, 2]),
        _set_of(4, process=[1, 2]),
        _set_of(4, floor=None),
    ],
)
def test_wrong_content_under_good_hashes_is_damage_too(
    example: Path, change: Callable[[list[tuple[int, Any]]], object]
) -> None:
    held = parts(example)
    change(held)
    assemble(example, held)
    with pytest.raises(SnapshotDamaged):
        load(example)


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held[1][1].__setitem__(1, held[1][1][1] + b"!"),
        lambda held: held[1][1].__setitem__(3, held[1][1][3] + b"!"),
        lambda held: held[1][1].__setitem__(slice(2, 6), held[1][1][4:6] + held[1][1][2:4]),
        lambda held: held[2][1].__setitem__(1, b"\1\0\0\0"),
        lambda held: held[3][1].__setitem__(2, b"\2\0\0\0\0\0\0\0"),
        lambda held: held[3][1].__setitem__(2, b"\0\0\0\0\0\0\0\0"),
        lambda held: held[3][1].__setitem__(slice(0, 6), held[3][1][3:6] + held[3][1][0:3]),
        lambda held: (held.pop(2), held[3][1].update(blocks=4)),
        _set_of(4, values=1),
        _set_of(4, size_bytes=4),
        _set_of(4, buckets=[0] * 64),
    ],
)
def test_verify_finds_what_a_load_trusts_the_writer_for(
    example: Path, change: Callable[[list[tuple[int, Any]]], object]
) -> None:
    held = parts(example)
    change(held)
    assemble(example, held)
    with pytest.raises(SnapshotDamaged):
        verify(example)


def test_keys_out_of_order_from_block_to_block_are_damage(tmp_path: Path) -> None:
    path, _ = write_snapshot(tmp_path, MANY, standing_of(MANY))
    held = parts(path)
    first, second = [at for at, (kind, _) in enumerate(held) if kind == ENTRIES][:2]
    held[first], held[second] = held[second], held[first]
    assemble(path, held)
    with pytest.raises(SnapshotDamaged, match="order"):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held.insert(1, (6, {})),
        _set_of(0, requires=["compression"]),
        _set_of(4, requires=["compression"]),
    ],
)
def test_what_only_a_newer_version_understands_is_refused_as_such(
    example: Path, change: Callable[[list[tuple[int, Any]]], object]
) -> None:
    held = parts(example)
    change(held)
    assemble(example, held)
    with pytest.raises(NewerVersion):
        load(example)


def test_a_later_version_is_refused_and_unknown_names_are_skipped(example: Path) -> None:
    held = parts(example)
    held[0][1]["colour"] = held[4][1]["colour"] = "blue"
    assemble(example, held)
    assert load(example)[0] == read_head(example) == head()
    example.write_bytes(b"WKVS\2\0\0\0" + example.read_bytes()[8:])
    with pytest.raises(NewerVersion):
        read_head(example)


def test_a_block_longer_than_the_file_is_refused_before_it_is_read(example: Path) -> None:
    example.write_bytes(PREAMBLE + b"\1\xff\xff\xff\x07" + bytes(8) + encode_head(head()))
    with pytest.raises(SnapshotDamaged, match="does not fit"):
        read_head(example)


# ---- stops and failures --------------------------------------------------------------------------------------------


def cut_from(index: int) -> Callable[[str, int], int | None]:
    """Cut the power in place of call `index`; nothing happens behind it."""

    def before(call: str, seen: int) -> int | None:
        if seen >= index:
            raise PowerCut(call)
        return None

    return before


def test_a_stop_at_any_call_leaves_no_snapshot_or_a_whole_one(tmp_path: Path) -> None:
    whole = FaultDisk()
    (tmp_path / "whole").mkdir()
    write_snapshot(tmp_path / "whole", MANY, standing_of(MANY), disk=whole)
    for stop in range(len(whole.calls)):
        directory = tmp_path / str(stop)
        directory.mkdir()
        with pytest.raises(PowerCut):
            write_snapshot(directory, MANY, standing_of(MANY), disk=FaultDisk(cut_from(stop)))
        for found in snapshots(directory):
            assert len(load(found.path)[1].keys) == len(MANY)
        sweep(directory, HastyDisk())
        assert len(list(directory.iterdir())) == len(snapshots(directory))


@pytest.mark.parametrize("call", ["open", "write", "sync", "rename"])
@pytest.mark.parametrize("code", [FULL, BROKEN])
def test_a_failure_leaves_the_older_snapshot_and_no_temporaries(tmp_path: Path, call: str, code: int) -> None:
    path, _ = write_snapshot(tmp_path, EXAMPLE, example_standing())
    before = path.read_bytes()
    with pytest.raises(OSError, match=os.strerror(code)):
        write_snapshot(tmp_path, MANY, standing_of(MANY), disk=FaultDisk(fail_on(call, code)))
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, before)]


def test_dots_beyond_the_bound_are_sorted_in_a_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    disk = FaultDisk()
    path, _ = write_snapshot(tmp_path, MANY, standing_of(MANY), disk=disk)
    assert f"open {path.name}.dots.tmp" in disk.calls
    assert f"unlink {path.name}.dots.tmp" in disk.calls
    held = [dot for dots in load(path)[1].dots for dot in zip(dots.seqs, dots.places, strict=True)]
    assert len(held) == len(MANY)


def test_a_large_snapshot_is_synced_in_steps(tmp_path: Path) -> None:
    disk = FaultDisk()
    large = [Entry(f"{n}", bytes(1000), 1, 1, n + 1) for n in range(9)]
    settings = SnapshotSettings(block_entries_max=1, sync_bytes=3000)
    write_snapshot(tmp_path, large, standing_of(large), settings=settings, disk=disk)
    assert disk.calls.count("sync") == 4


# ---- names ---------------------------------------------------------------------------------------------------------


def test_only_whole_names_are_snapshots(tmp_path: Path) -> None:
    for name in ("00000012.snapshot", "00000003.snapshot", "00000013.snapshot.tmp", "7.snapshot", "00000014.wal"):
        (tmp_path / name).touch()
    assert [found.number for found in snapshots(tmp_path)] == [3, 12]
    assert newest(tmp_path) == (12, tmp_path / snapshot_name(12))
    assert snapshot_number("00000012.snapshot.tmp") is None


def test_a_directory_without_snapshots_has_no_newest(tmp_path: Path) -> None:
    assert newest(tmp_path) is None


def test_the_standing_is_that_of_the_same_moment(example: Path) -> None:
    assert facts(load(example)[1].standing) == facts(example_standing())


def test_a_snapshot_keeps_promises_and_the_horizon_and_requires_a_reader_that_does(tmp_path: Path) -> None:
    standing = standing_of(MANY)
    path, _ = write_snapshot(tmp_path, MANY, standing)
    assert "requires" not in parts(path)[-1][1], "older versions read it while there is nothing"
    standing.apply(Promise(50))
    standing.apply(DropOrigins(40, ((77, 3),)))
    path, _ = write_snapshot(tmp_path, MANY, standing)
    assert parts(path)[-1][1]["requires"] == ["dead_origins"]
    kept = load(path)[1].standing
    assert (kept.promised, kept.horizon, kept.dropped) == (50, 40, {77: 3})
