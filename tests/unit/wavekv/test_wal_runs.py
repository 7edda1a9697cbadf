"""Runs of records are read to what the codec reads, and no flipped bit passes in one."""

import random
from array import array
from collections.abc import Sequence

import pytest

from wavekv.core.codec.records import decode_header, encode_group, encode_header, encode_record
from wavekv.core.loading import Run, consecutive
from wavekv.core.ops import Op, Set, SetNextSeq
from wavekv.core.packed import HAS_VALUE, KIND_AT, unpack, value_bytes
from wavekv.core.types import Entry
from wavekv.wal.runs import RUN_RECORDS_MIN, read_run
from wavekv.wal.segment import Reader, Scan, Sequences, replay

ORIGIN = 0xB0A710AD
NOW_MS = 1_760_000_000_000
HEADER = encode_header(1, 0)


class Taken:
    """Takes whatever a replay hands on; `ops` are all in order, `in_runs` counts those that came in runs.

    The last group start of a run stands before it.
    """

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.in_runs = 0

    def fold(self, run: Run) -> None:
        assert len(run.keys) == len(run.packed) == len(run.seqs) == len(run.numbers)
        bounds = [at for _, at in run.origins]
        assert bounds == sorted(set(bounds))
        assert bounds[0] == 0
        assert list(run.numbers) == sorted(set(run.numbers))
        assert run.first <= run.numbers[0]
        assert run.numbers[-1] < run.first + run.records
        if run.next_seq:
            self.ops.append(SetNextSeq(run.next_seq))
        origins = {at: origin for origin, at in run.origins}
        origin = 0
        for at, (key, packed, seq) in enumerate(zip(run.keys, run.packed, run.seqs, strict=True)):
            origin = origins.get(at, origin)
            entry = unpack(key, packed)
            assert (entry.origin, entry.seq) == (origin, seq)
            self.ops.append(Set(entry))
        assert run.values == sum(packed[KIND_AT] == HAS_VALUE for packed in run.packed)
        assert run.size_bytes == sum(map(value_bytes, run.packed)) + len("".join(run.keys).encode())
        self.in_runs += len(run.keys)


def segment(groups: Sequence[Sequence[Entry]], first_sequence: int = 70_000) -> bytes:
    data, sequence = HEADER, first_sequence
    for group in groups:
        encoded, records = encode_group([Set(entry) for entry in group], sequence, max(e.seq for e in group) + 1)
        data, sequence = data + encoded, sequence + records
    return data


def same(
    count: int, *, key: str = "key-{:05}", value: bytes | None = b"v" * 40, first_seq: int = 70_000
) -> list[Entry]:
    """Return entries whose records are of one shape."""
    numbers = range(first_seq, first_seq + count)
    return [
        Entry(key.format(at), None if value is None else bytes([at % 251]) + value[1:], NOW_MS + at, ORIGIN, seq)
        for at, seq in enumerate(numbers)
    ]


def read(data: bytes) -> tuple[Taken, Scan]:
    taken = Taken()
    scan = replay(data, decode_header(HEADER), taken.ops.append, Sequences(last=None), fold=taken.fold)
    return taken, scan


def sets(ops: Sequence[Op]) -> list[Op]:
    return [op for op in ops if isinstance(op, Set)]


def assert_read_as_the_codec_does(data: bytes) -> Taken:
    """What is replayed with runs is what record by record gives: entries, counts, the end and its damage."""
    reader = Reader(data, decode_header(HEADER))
    ops = [record.op for _, _, record in reader]
    taken, scan = read(data)
    assert sets(taken.ops) == sets(ops)
    assert (scan.records, scan.valid_end, scan.damage) == (len(ops), reader.valid_end, reader.damage)
    assert scan.groups == len(ops) - len(sets(ops))
    last = max((op.seq for op in ops if isinstance(op, SetNextSeq)), default=0)
    assert max((op.seq for op in taken.ops if isinstance(op, SetNextSeq)), default=0) == last
    by_record = replay(data, decode_header(HEADER), lambda _: None, Sequences())
    assert scan == by_record
    return taken


SHAPES = {
    "values": {},
    "long values": {"value": b"w" * 300},
    "tombstones": {"value": None},
    "empty values": {"value": b""},
    "one-byte keys": {"key": "k", "value": b"v"},
    "empty keys": {"key": "", "value": b"v" * 30},
    "the longest keys": {"key": "k" * 245 + "{:05}"},
    "keys that are not ASCII": {"key": "schl\u00fcssel-{:05}"},
    "keys with a NUL": {"key": "a\0{:05}"},
    "short sequences": {"first_seq": 300},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("first_sequence", [300, 70_000])
def test_records_of_one_shape_are_read_as_runs(shape: dict[str, object], first_sequence: int) -> None:
    entries = same(200, **shape)  # type: ignore[arg-type]
    data = segment([entries[:3], entries[3:90], entries[90:91], entries[91:]], first_sequence)
    taken = assert_read_as_the_codec_does(data)
    assert taken.in_runs >= 200 - RUN_RECORDS_MIN


def test_most_of_a_log_of_one_shape_is_read_in_runs() -> None:
    entries = same(5000)
    taken = assert_read_as_the_codec_does(segment([entries[at : at + 50] for at in range(0, 5000, 50)]))
    assert taken.in_runs > 4900


def test_times_may_jump() -> None:
    draw = random.Random(11)
    bounds = (2**62, NOW_MS, 2**33, 2**32 + 2)
    entries = [entry._replace(timestamp=draw.randrange(2**32, bounds[at // 200])) for at, entry in enumerate(same(800))]
    taken = assert_read_as_the_codec_does(segment([entries[:300], entries[300:]]))
    assert taken.in_runs > 700


def test_origins_may_take_turns() -> None:
    entries = [entry._replace(origin=ORIGIN + at // 7 % 3) for at, entry in enumerate(same(300))]
    taken = assert_read_as_the_codec_does(segment([entries[:100], entries[100:]]))
    assert taken.in_runs > 200


def test_shapes_may_change_at_any_record() -> None:
    draw = random.Random(5)
    groups = []
    for at in range(60):
        length = draw.choice((0, 5, 40, 260))
        groups.append(same(draw.randint(1, 90), key=f"{at}-{{}}", value=draw.choice((b"v" * length, None))))
    taken = assert_read_as_the_codec_does(segment(groups))
    assert taken.in_runs > RUN_RECORDS_MIN


def test_times_before_1970_and_short_checksums_are_left_to_others() -> None:
    entries = same(4000, value=b"v" * 10)
    entries[1000] = entries[1000]._replace(timestamp=-5)
    entries[3000] = entries[3000]._replace(timestamp=-NOW_MS)
    taken = assert_read_as_the_codec_does(segment([entries]))
    assert taken.in_runs > 1500


def test_the_borders_of_integer_widths_are_crossed() -> None:
    entries = same(1500, first_seq=65_000)
    assert assert_read_as_the_codec_does(segment([entries[:700], entries[700:]], 64_800)).in_runs > 800


@pytest.mark.parametrize("shape", [{"value": b"v" * 9}, {"value": None}, {"key": "k", "value": b"v"}])
def test_no_flipped_bit_is_taken_for_data(shape: dict[str, object]) -> None:
    entries = same(40, **shape)  # type: ignore[arg-type]
    data = segment([entries[:2], entries[2:38], entries[38:]])
    assert read(data)[0].in_runs >= RUN_RECORDS_MIN
    size = len(data) // 40
    # Every bit of two records in the midst, of the first and of the last.
    middle = len(data) // 2
    for offset in (
        *range(len(HEADER), len(HEADER) + 3 * size),
        *range(middle, middle + 2 * size),
        *range(len(data) - 2 * size, len(data)),
    ):
        for bit in range(8):
            spoiled = bytearray(data)
            spoiled[offset] ^= 1 << bit
            assert_read_as_the_codec_does(bytes(spoiled))


def test_two_records_that_changed_places_are_no_run() -> None:
    data = segment([same(60)])
    start = next(iter(Reader(data, decode_header(HEADER)))).length + 4 + len(HEADER)
    size = (len(data) - start) // 60
    at = start + 20 * size
    swapped = data[:at] + data[at + size : at + 2 * size] + data[at : at + size] + data[at + 2 * size :]
    assert read_run(data, start, 70_001, Taken().fold) is not None
    assert read_run(swapped, start, 70_001, Taken().fold) is None


def test_two_records_with_each_other_s_checksums_are_no_run() -> None:
    data = bytearray(segment([same(60)]))
    start = next(iter(Reader(bytes(data), decode_header(HEADER)))).length + 4 + len(HEADER)
    size = (len(data) - start) // 60
    one, other = start + 21 * size - 4, start + 22 * size - 4
    data[one : one + 4], data[other : other + 4] = data[other : other + 4], data[one : one + 4]
    assert_read_as_the_codec_does(bytes(data))
    assert read_run(bytes(data), start, 70_001, Taken().fold) is None


def test_sequences_behind_the_greatest_are_left_to_others() -> None:
    first, rest = same(1), same(40)
    greatest = encode_record(2**64 - 1, Set(first[0]))
    around = b"".join(encode_record(70_000 + at, Set(entry)) for at, entry in enumerate(rest))
    taken = assert_read_as_the_codec_does(HEADER + greatest + around)
    assert len(taken.ops) == 41


@pytest.mark.parametrize("first", [0, 1, 255, 256, 65_300, 2**24 - 300, 2**32 - 5, 2**56 - 9, 2**64 - 2_000])
@pytest.mark.parametrize("count", [0, 1, 256, 2_000])
def test_consecutive_numbers(first: int, count: int) -> None:
    numbers = array("Q")
    numbers.frombytes(consecutive(first, count))
    assert list(numbers) == list(range(first, first + count))


def test_a_log_may_end_anywhere() -> None:
    data = segment([same(40), same(3)])
    for end in range(len(data) - 220, len(data) + 1):
        assert_read_as_the_codec_does(data[:end])
        assert_read_as_the_codec_does(data[:end] + bytes(64))


def test_a_run_of_the_wrong_sequence_is_none() -> None:
    data = segment([same(60)])
    assert read_run(data, len(HEADER), 70_000, Taken().fold) is not None
    assert read_run(data, len(HEADER), 70_001, Taken().fold) is None
    assert read_run(data, len(data), 70_000, Taken().fold) is None
