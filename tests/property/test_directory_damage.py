"""A whole directory, every kind of operation in snapshot and log, cut at any byte or with a bit flipped in any byte.

Each such directory comes to what was written, or to a beginning of it that is named as damage, or is refused by name
and left as it was; never to anything else. What a snapshot holds is never lost to one fault.
"""

import random
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fakes.log import EVERY_OP, HASTY, entry
from tests.fakes.segments import IDENTITY_1, write_identity, write_segments
from tests.fakes.snapshots import TINY
from wavekv.compaction.merge import Merger
from wavekv.config import CompactionSettings
from wavekv.core.loading import loader_over
from wavekv.core.ops import Op, Set, SetNextSeq, storing
from wavekv.core.store import Store
from wavekv.core.types import Entry
from wavekv.errors import BadHeader, ForeignDirectory, NewerVersion
from wavekv.wal.directory import DataDirectory
from wavekv.wal.recovery import Recovery, recover, settle
from wavekv.wal.segment import read_header

SEGMENTS: list[list[tuple[Op, ...]]] = [
    [EVERY_OP, (Set(entry(11, None)), Set(entry(12, b"long" * 20)))],
    [EVERY_OP[8:10], EVERY_OP[:2]],
    [(storing(Entry("other", b"", 1, 9, 1, 2)), *EVERY_OP[10:])],
    [EVERY_OP, (Set(entry(13)),)],
    [(Set(entry(14)),), EVERY_OP[7:], (Set(entry(1, b"newer")), EVERY_OP[9])],
]
BASE, NEWEST = 1, 3
OPS: list[Op] = [op for groups in SEGMENTS for ops in groups for op in (SetNextSeq(1), *ops)]
FOLDED = sum(1 + len(ops) for groups in SEGMENTS[:NEWEST] for ops in groups)
LAST_GROUP = len(OPS) - 1 - len(SEGMENTS[-1][-1])
LAST_SEGMENT = sum(1 + len(ops) for groups in SEGMENTS[:-1] for ops in groups)
SNAPSHOT, FALLBACK = f"{NEWEST:08}.snapshot", f"{BASE:08}.snapshot"
REPEATED_EVERY = 9
"""Of the damaged directories, so many are recovered a second time."""


class Outcome(NamedTuple):
    """What a recovery came to: the position in `OPS` whose state it found, and the damage it named."""

    position: int | None
    damage: str | None
    """The name of the error where it refused."""


def state(store: Store) -> str:
    context = store.context
    acks = sorted(context.acks.items()), sorted(context.ranges())
    return repr((sorted(store.packed.items()), acks, store.floor, store.process, store.position))


def positions() -> dict[str, int]:
    """Return the state at every position of the log; no two are the same, because it counts its records."""
    store = Store(10)
    found = {state(store): 0}
    for position, op in enumerate(OPS, start=1):
        store.apply(op)
        found[state(store)] = position
    assert len(found) == len(OPS) + 1
    return found


POSITIONS = positions()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Snapshot 1, the segments behind it, snapshot 3, the segments behind that; the last one ends in zeros."""
    path = tmp_path_factory.mktemp("whole")
    write_identity(path)
    write_segments(path, SEGMENTS)
    merger = Merger(path, IDENTITY_1, CompactionSettings(), TINY, HASTY, lambda _done, _total: None)
    merger.merge(0, BASE, 5)
    merger.merge(BASE, NEWEST, 6)
    (path / "00000001.wal").unlink()
    last = path / "00000005.wal"
    last.write_bytes(last.read_bytes() + bytes(40))
    return {file.name: file.read_bytes() for file in path.iterdir()}


class Trial:
    """One directory that is laid out again and again."""

    def __init__(self, path: Path, whole: dict[str, bytes]) -> None:
        self.path = path
        self._whole = whole
        self._count = 0
        self._damaged = "00000005.wal"

    def outcome(self, name: str, content: bytes) -> Outcome:
        """Recover the directory with `content` in place of one file."""
        files = {**self._whole, name: content}
        self._lay_out(files, name)
        try:
            found, recovery = self._recover()
        except (NewerVersion, BadHeader, ForeignDirectory) as refusal:
            assert {file.name: file.read_bytes() for file in self.path.iterdir()} == files
            return Outcome(None, type(refusal).__name__)
        self._count += 1
        if self._count % REPEATED_EVERY == 0:
            settle(DataDirectory(self.path, IDENTITY_1, False, -1), HASTY)
            again, second = self._recover()
            assert (again, second.damage) == (found, None)
        assert found in POSITIONS, "neither what was written nor a beginning of it"
        return Outcome(POSITIONS[found], recovery.damage)

    def _recover(self) -> tuple[str, Recovery]:
        directory = DataDirectory(self.path, IDENTITY_1, False, -1)
        loader, recovery = recover(directory, partial(loader_over, 10), HASTY)
        return state(loader.store()), recovery

    def _lay_out(self, files: dict[str, bytes], name: str) -> None:
        """Write what is not there, what was or is damaged, and the last segment, whose end every recovery mends."""
        there = set()
        for path in self.path.iterdir():
            if path.name in files:
                there.add(path.name)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        for file in files.keys() - there | {name, self._damaged, "00000005.wal"}:
            (self.path / file).write_bytes(files[file])
        self._damaged = name


@pytest.fixture
def trial(tmp_path: Path, whole: dict[str, bytes]) -> Trial:
    return Trial(tmp_path, whole)


def flips(data: bytes) -> list[bytes]:
    """Return `data` with one bit flipped in each of its bytes in turn, another bit from byte to byte."""
    bits = random.Random(len(data))
    return [data[:at] + bytes([byte ^ 1 << bits.randrange(8)]) + data[at + 1 :] for at, byte in enumerate(data)]


def cuts(data: bytes) -> list[bytes]:
    return [data[:size] for size in range(len(data))]


WHOLE = Outcome(len(OPS), None)


def test_the_directory_is_whole_and_holds_every_kind_of_operation(trial: Trial, whole: dict[str, bytes]) -> None:
    assert trial.outcome("IDENTITY", whole["IDENTITY"]) == WHOLE
    for ops in (OPS[:FOLDED], OPS[FOLDED:]):
        assert {type(op) for op in ops} == {SetNextSeq, *map(type, EVERY_OP)}
    assert sorted(name for name in whole if name != "IDENTITY") == [
        *("00000001.snapshot", "00000002.wal", "00000003.snapshot", "00000003.wal", "00000004.wal", "00000005.wal")
    ]


def test_a_newest_snapshot_cut_anywhere_costs_nothing(trial: Trial, whole: dict[str, bytes]) -> None:
    for content in cuts(whole[SNAPSHOT]):
        assert trial.outcome(SNAPSHOT, content) == Outcome(len(OPS), "snapshot"), len(content)


def test_a_newest_snapshot_with_a_flipped_bit_costs_nothing_or_passes_for_a_later_version(
    trial: Trial, whole: dict[str, bytes]
) -> None:
    for at, content in enumerate(flips(whole[SNAPSHOT])):
        refused = at in range(4, 8)  # its version
        expected = Outcome(None, "NewerVersion") if refused else Outcome(len(OPS), "snapshot")
        assert trial.outcome(SNAPSHOT, content) == expected, at


@pytest.mark.parametrize("name", [FALLBACK, "00000002.wal", "00000003.wal"])
def test_what_a_whole_snapshot_stands_for_may_break_without_loss(
    trial: Trial, whole: dict[str, bytes], name: str
) -> None:
    refused = set()
    for at, content in enumerate(cuts(whole[name]) + flips(whole[name])):
        outcome = trial.outcome(name, content)
        if outcome != WHOLE:
            assert outcome.position is None, at
            refused.add(outcome.damage)
    # A file that says it is not of this log, or of a later version, refuses the start even where it is not needed.
    assert refused <= {"NewerVersion", "BadHeader", "ForeignDirectory"}


def test_a_closed_segment_behind_the_snapshot_cut_anywhere_is_corruption(trial: Trial, whole: dict[str, bytes]) -> None:
    for content in cuts(whole["00000004.wal"]):
        position, damage = trial.outcome("00000004.wal", content)
        assert damage == "corruption", len(content)
        assert position is not None
        assert FOLDED <= position < LAST_SEGMENT


def test_a_last_segment_cut_anywhere_loses_what_was_cut_and_no_more(trial: Trial, whole: dict[str, bytes]) -> None:
    reached = set()
    for content in cuts(whole["00000005.wal"]):
        position, damage = trial.outcome("00000005.wal", content)
        headless = read_header(content, "") is None
        assert damage in (("blank_segment",) if headless else (None, "torn_tail")), len(content)
        assert position is not None
        assert position >= LAST_SEGMENT
        reached.add(position)
    assert reached == set(range(LAST_SEGMENT, len(OPS) + 1))


@pytest.mark.parametrize("number", [4, 5])
def test_a_flipped_bit_behind_the_snapshot_is_named(trial: Trial, whole: dict[str, bytes], number: int) -> None:
    name = f"{number:08}.wal"
    met = set()
    for at, content in enumerate(flips(whole[name])):
        position, damage = trial.outcome(name, content)
        met.add(damage)
        if position is None:
            assert at < 20, "only in its header"
        elif position < len(OPS):
            assert position >= FOLDED
            torn = number == len(SEGMENTS) and position >= LAST_GROUP
            assert damage == ("torn_tail" if torn else "corruption"), at
        else:
            assert damage in (None, "torn_tail"), at
    assert {"corruption", "BadHeader"} <= met
    assert ("torn_tail" in met) == (number == len(SEGMENTS))
