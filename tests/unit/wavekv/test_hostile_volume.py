"""A volume that a stranger made: what it may cost to refuse it, by which name, and that nothing of it is changed.

Memory is what tracemalloc sees at its highest, so a bound here is one of what is built, not of what the system gives.
"""

import json
import os
import socket
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.log import HASTY, append_all, entry, opened
from tests.unit.wavekv.test_wal_directory import open_at
from wavekv.config import VOLUME_LIMITS, Limits
from wavekv.core.codec.bincode import varint
from wavekv.core.codec.records import decode_op, encode_header, encode_record
from wavekv.core.loading import loader_over
from wavekv.core.ops import Batch, Clear, Cover, Op, Process, Set, SetNextSeq
from wavekv.core.types import Entry
from wavekv.disk import OS_DISK, disk_error
from wavekv.errors import Corruption, UnusableFile, UsageError, VolumeTooLarge
from wavekv.runtime.epoch_file import EpochFile, read_document
from wavekv.snapshot.bounds import HeldBounds, held_bounds
from wavekv.volume import NotRegular, open_regular, read_file
from wavekv.wal.directory import BOOTS_MAX, LOCK
from wavekv.wal.recovery import recover
from wavekv.wal.segment import Sequences, read_header, replay
from wavekv.wal.spares import zero_spares

MIB = 1 << 20


def peak_bytes(step: Callable[[], Any]) -> int:
    """Return the most that Python held at once for `step`, beyond what it held before."""
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def check_refused(error: type[Exception], step: Callable[[], Any], match: str | None = None) -> int:
    """Require the refusal; return the memory it took."""

    def inner() -> None:
        with pytest.raises(error, match=match):
            step()

    return peak_bytes(inner)


# ---- what has a name of ours -----------------------------------------------------------------------------------------

FILES = (
    "IDENTITY",
    "IDENTITY.tmp",
    "LOCK",
    "MEMBERSHIP",
    "RESERVE",
    "CONVERTING",
    "00000001.wal",
    "00000009.wal",
    "00000009.wal.tmp",
    "00000003.snapshot",
    "00000003.snapshot.dots.tmp",
    "00000002.spare",
    "00000002.spare.tmp",
    "00000001.wal.torn-40",
)


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside.with_name("not-there"))


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, _: Path) -> None:
    path.mkdir()


def _socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize("make", [_link, _dangling, _fifo, _folder, _socket])
@pytest.mark.parametrize("name", FILES)
def test_a_name_of_ours_that_is_no_file_is_refused_before_anything_is_opened(
    name: str, make: Callable[[Path, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "v"
    outside.write_bytes(b"another team's")
    append_all(volume, [[Set(entry(1))]])
    (volume / name).unlink(missing_ok=True)
    monkeypatch.chdir(volume)  # a socket's path has a bound of its own
    make(Path(name), outside)
    before = {file.name: os.lstat(file) for file in volume.iterdir()}
    with pytest.raises(UnusableFile, match=name) as refusal:
        open_at(volume, node_id=7)
    assert (refusal.value.code, refusal.value.exit_code) == ("unusable_file", 4)
    assert {file.name: os.lstat(file) for file in volume.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir() if file != volume] == ["outside"]
    assert outside.read_bytes() == b"another team's"


@pytest.mark.parametrize("name", ["quarantine", "crate"])
def test_a_folder_of_ours_is_never_a_link_to_another(name: str, tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    append_all(volume, [[Set(entry(1))]])
    (volume / name).symlink_to(outside)
    with pytest.raises(UnusableFile, match=name):
        open_at(volume, node_id=7)


def test_a_device_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(NotRegular, match="a device"):
        open_regular(Path("/dev/zero"))
    with pytest.raises(UnusableFile, match="a device"):
        read_file(Path("/dev/zero"), 10)


def test_a_link_on_the_way_is_meant_where_a_person_or_pod_named_the_file(tmp_path: Path) -> None:
    """A mounted ConfigMap is made of links."""
    target, link = tmp_path / "..data", tmp_path / "membership.json"
    target.write_text(json.dumps({"epoch": 1, "members": ["a"]}))
    link.symlink_to(target)
    assert read_document(link).epoch.members == ("a",)
    with pytest.raises(UnusableFile):
        read_file(link, 1000)


def test_writing_through_a_link_is_refused_and_called_by_its_name(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    (tmp_path / "IDENTITY.tmp").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic link") as found:
        OS_DISK.open(tmp_path / "IDENTITY.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    assert isinstance(disk_error(found.value, "write"), UnusableFile)
    assert outside.read_bytes() == b"kept"


def test_a_longer_file_under_the_locks_name_stays_whole(tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    content = b"an entry of some other file"
    (tmp_path / LOCK).write_bytes(content * 3)
    with opened(tmp_path):
        pass
    assert (tmp_path / LOCK).read_bytes() == content * 3


@pytest.mark.parametrize("more", [0, 1])
def test_names_in_a_directory_are_bounded(more: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    names = len(list(tmp_path.iterdir()))
    monkeypatch.setattr("wavekv.wal.directory.VOLUME_LIMITS", replace(VOLUME_LIMITS, names_max=names - more))
    if more:
        with pytest.raises(UnusableFile, match="names"):
            open_at(tmp_path, node_id=7)
    else:
        open_at(tmp_path, node_id=7).close()


# ---- documents -------------------------------------------------------------------------------------------------------


def identity(path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((path / "IDENTITY").read_bytes())
    return fields


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("boot_count", BOOTS_MAX),
        ("boot_count", 10**400),
        ("created_at", 10**30),
        ("created_at", -1),
        ("cluster_id", "c" * 300),
        ("node_id", 1e400),
        ("uuid", {"a": []}),
        ("format", True),
    ],
)
def test_a_field_of_the_identity_out_of_range_is_corruption(field: str, value: Any, tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    (tmp_path / "IDENTITY").write_text(json.dumps(identity(tmp_path) | {field: value}))
    with pytest.raises(Corruption, match="IDENTITY is damaged"):
        open_at(tmp_path)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_document_nested_deep_is_damaged_and_costs_little(opening: str, tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    (tmp_path / "IDENTITY").write_text((opening * VOLUME_LIMITS.document_bytes_max)[: VOLUME_LIMITS.document_bytes_max])
    assert check_refused(Corruption, lambda: open_at(tmp_path), "too deep") < 4 * MIB
    (tmp_path / "MEMBERSHIP").write_text(opening * 100_000)
    assert check_refused(UsageError, EpochFile(tmp_path).load, "too deep") < 4 * MIB


@pytest.mark.parametrize(("name", "most"), [("IDENTITY", 64 << 10), ("MEMBERSHIP", 1 << 20)])
def test_documents_are_read_up_to_their_bound(name: str, most: int, tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    membership = {"epoch": 1, "members": ["a"], "bootstrap": False}
    (tmp_path / "MEMBERSHIP").write_text(json.dumps(membership))
    read = {"IDENTITY": lambda: open_at(tmp_path).close(), "MEMBERSHIP": EpochFile(tmp_path).load}[name]
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content + b" " * (most - len(content)))
    read()
    with (tmp_path / name).open("ab") as file:
        file.truncate((1 << 40) if name == "MEMBERSHIP" else most + 1)
    assert check_refused(UnusableFile, read, name) < MIB


@pytest.mark.parametrize(
    "marker",
    [
        {"files": ["IDENTITY"]},
        {"files": ["..", "node_1.wal"]},
        {"files": ["node_1.wal\0"]},
        {"files": ["node_1.wal"], "records": "many"},
        {"files": ["node_1.wal"], "damage": [[]]},
    ],
    ids=repr,
)
def test_a_conversion_moves_only_files_of_the_original_system(marker: dict[str, Any], tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    whole = {"node_id": 1, "base": "nothing", "records": 0, "entries": 0, "cut_bytes": 0, "damage": None}
    (tmp_path / "CONVERTING").write_text(json.dumps(whole | marker))
    with pytest.raises(Corruption, match="CONVERTING is damaged"):
        open_at(tmp_path)
    assert (tmp_path / "IDENTITY").exists()


@pytest.mark.parametrize("segment", ["1e999", "-1", '"1"', "true", str(10**30)])
def test_a_plan_of_a_quarantine_that_nobody_made_is_corruption(segment: str, tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    event = tmp_path / "quarantine" / "0001"
    event.mkdir(parents=True)
    (event / "plan.json").write_text(f'{{"segment": {segment}, "valid_end": 0, "cause": "x"}}')
    with opened(tmp_path) as directory, pytest.raises(Corruption):
        recover(directory, partial(loader_over, 10), HASTY)


# ---- the log ---------------------------------------------------------------------------------------------------------


def sparse(path: Path, size: int) -> None:
    with path.open("ab") as file:
        file.truncate(size)


def test_a_segment_longer_than_any_is_refused_unread_and_the_start_is_not_counted(tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    boots = identity(tmp_path)["boot_count"]
    sparse(tmp_path / "00000001.wal", VOLUME_LIMITS.segment_bytes_max + 1)
    with opened(tmp_path) as directory:
        spent = check_refused(UnusableFile, lambda: recover(directory, partial(loader_over, 10), HASTY), "00000001.wal")
    assert spent < 4 * MIB
    assert identity(tmp_path)["boot_count"] == boots


def test_a_spare_that_would_fill_the_volume_is_removed_and_not_zeroed(tmp_path: Path) -> None:
    sparse(tmp_path / "00000001.spare.tmp", VOLUME_LIMITS.segment_bytes_max + 1)
    zero_spares(tmp_path, HASTY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [0, 1])
def test_operations_of_one_record_are_bounded_before_they_are_built(more: int) -> None:
    count = VOLUME_LIMITS.batch_operations_max + more
    data = b"\x0a" + varint(count) + b"\1\0" * count  # each deletes the empty key
    if more:
        assert check_refused(Exception, lambda: decode_op(data, 0), "none has more than") < MIB
    else:
        op, end = decode_op(data, 0)
        assert (op, end) == (Batch((Clear(""),) * count), len(data))


def log_of(path: Path, ops: list[Op]) -> None:
    """Write a segment whose every record holds, in one group."""
    records = [encode_record(number, op) for number, op in enumerate([SetNextSeq(1), *ops], start=1)]
    (path / "00000001.wal").write_bytes(encode_header(7, 0) + b"".join(records))


@pytest.mark.parametrize("held", [HeldBounds(2000, 1 << 30), HeldBounds(10_000, 40_000)])
def test_a_log_that_comes_to_more_than_the_member_may_hold_is_refused(held: HeldBounds, tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    log_of(tmp_path, [Set(Entry(f"k{number}", b"", 1, 9, number)) for number in range(1, 5000)])
    before = (tmp_path / "00000001.wal").read_bytes()
    with opened(tmp_path) as directory, pytest.raises(VolumeTooLarge, match="--limit-entries") as refusal:
        recover(directory, partial(loader_over, 10), HASTY, held=held)
    assert refusal.value.exit_code == 4
    assert (tmp_path / "00000001.wal").read_bytes() == before
    with opened(tmp_path) as directory:
        loader, _ = recover(directory, partial(loader_over, 10), HASTY, held=HeldBounds(4999, 1 << 30))
    assert len(loader.held) == 4999


def test_what_a_directory_may_come_to_is_twice_what_its_member_may_hold() -> None:
    assert held_bounds(Limits(entries_max=10, bytes_max=100)) == (20, 200)


def test_coverage_that_a_log_claims_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path):
        pass
    log_of(tmp_path, [Cover(origin, 1, 5) for origin in range(1, 1001)])
    for most, refusing in ((999, True), (1000, False)):
        monkeypatch.setattr("wavekv.snapshot.bounds.VOLUME_LIMITS", replace(VOLUME_LIMITS, coverage_max=most))
        with opened(tmp_path) as directory:
            if refusing:
                with pytest.raises(VolumeTooLarge, match="origins"):
                    recover(directory, partial(loader_over, 10), HASTY)
            else:
                recover(directory, partial(loader_over, 10), HASTY)


def test_processes_of_a_log_are_forgotten_but_for_the_newest() -> None:
    loader = loader_over(10, None)
    spent = peak_bytes(lambda: [loader.apply(Process(inc, 1, False)) for inc in range(1, 50_000)])
    assert spent < MIB


def test_reading_looks_at_what_is_held_every_few_thousand_records() -> None:
    header = encode_header(7, 0)
    records = [encode_record(number, Set(entry(number))) for number in range(1, 30_001)]
    data = header + b"".join(records)
    looks = []
    taken: list[Op] = []
    found = read_header(data, "x")
    assert found is not None
    replay(data, found, taken.append, Sequences(), heed=lambda: looks.append(len(taken)))
    gaps = [second - first for first, second in pairwise(looks)]
    assert len(taken) == 30_000
    assert max(gaps) <= 4096
