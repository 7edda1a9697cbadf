"""Whatever a crash or a bad bit does to a log, what is replayed was written, in order; the rest is named."""

from pathlib import Path

import pytest

from tests.fakes.log import EVERY_OP, HASTY, Operations, append_all, entry, opened, recovered
from wavekv.config import WalSettings
from wavekv.core.codec.records import decode_header, encode_group, encode_header, encode_record
from wavekv.core.ops import Op, Set, SetNextSeq
from wavekv.errors import BadHeader, ForeignDirectory, NewerVersion
from wavekv.wal.recovery import recover
from wavekv.wal.segment import Reader, Sequences, replay

ROOMY = WalSettings(segment_bytes_max=1 << 16, preallocate_bytes=64)
GROUPS: list[tuple[Op, ...]] = [EVERY_OP[:1], EVERY_OP, EVERY_OP[7:9]]
OPS: list[Op] = [op for number, group in enumerate(GROUPS, start=1) for op in (SetNextSeq(number), *group)]
HEADER_END = 19


def ends() -> list[int]:
    """Return where each record ends in the file."""
    found = [HEADER_END]
    for sequence, op in enumerate(OPS, start=1):
        found.append(found[-1] + len(encode_record(sequence, op)))
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    append_all(tmp_path, GROUPS, ROOMY)
    assert (tmp_path / "00000001.wal").stat().st_size == ends()[-1]
    return tmp_path


def test_a_log_cut_at_any_byte_replays_every_record_before_the_cut(log: Path) -> None:
    file = log / "00000001.wal"
    whole = file.read_bytes()
    for size in range(len(whole) + 1):
        for zeros in (0, 40) if size >= HEADER_END else (0,):
            file.write_bytes(whole[:size] + bytes(zeros))
            found, ops = recovered(log, HASTY)
            complete = sum(end <= size for end in ends()[1:])
            # A cut record may end in zeros of its own: then the preallocated ones complete it.
            assert ops in (OPS[:complete], OPS[: complete + 1]), size
            assert ops == OPS[:complete] or zeros, size
            assert found.damage in (("blank_segment",) if size < HEADER_END else (None, "torn_tail")), size
            assert (found.damage is None) == (size in ends()) or zeros
            second, again = recovered(log, HASTY)
            assert (again, second.damage, second.cut_bytes) == (ops, None, 0), size


def test_appending_after_a_cut_at_any_byte_never_meets_what_was_cut(log: Path) -> None:
    file = log / "00000001.wal"
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        _, ops = recovered(log, HASTY)
        append_all(log, [EVERY_OP[:1]], ROOMY, disk=HASTY)
        found, again = recovered(log, HASTY)
        assert again == [*ops, SetNextSeq(1), EVERY_OP[0]], size
        assert found.damage is None


@pytest.mark.parametrize("first_sequence", [1, 300, 70_000, 2**32])
def test_fast_and_slow_reading_agree_under_every_flipped_bit(first_sequence: int) -> None:
    header = encode_header(1, 0)
    data, sequence = header, first_sequence
    for number in (5, 300, 70_000):
        ops = [Set(entry(number)), Set(entry(number + 1, None)), Set(entry(number + 2, b"v" * 260))]
        group, records = encode_group(ops, sequence, number)
        data, sequence = data + group, sequence + records
    for offset in range(len(header), len(data)):
        for bit in (0, 4, 7):
            spoiled = bytearray(data)
            spoiled[offset] ^= 1 << bit
            reader = Reader(bytes(spoiled), decode_header(header))
            read = [record.op for _, _, record in reader]
            replayed: list[Op] = []
            scan = replay(bytes(spoiled), decode_header(header), replayed.append, Sequences())
            assert replayed == read, (offset, bit)
            assert (scan.valid_end, scan.damage, scan.records) == (reader.valid_end, reader.damage, len(read))


def test_one_flipped_bit_anywhere_is_never_wrong_data(log: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = (log / "00000001.wal").read_bytes()
    last_group = ends()[len(OPS) - len(GROUPS[-1]) - 1]
    verdicts: set[str | None] = set()
    for offset in range(len(whole)):
        for bit in (0, 3, 7):
            spoiled = bytearray(whole)
            spoiled[offset] ^= 1 << bit
            path = tmp_path_factory.mktemp("flip")
            with opened(path, HASTY) as directory:
                (path / "00000001.wal").write_bytes(spoiled)
                ops: list[Op] = []
                try:
                    loader, found = recover(directory, Operations, HASTY)
                    ops = loader.ops
                except (BadHeader, ForeignDirectory, NewerVersion):
                    assert offset < HEADER_END, (offset, bit)
                    assert (path / "00000001.wal").read_bytes() == spoiled
                    verdicts.add("refused")
                    continue
            assert ops == OPS[: len(ops)], (offset, bit)
            verdicts.add(found.damage)
            if len(ops) < len(OPS):
                expected = "corruption" if offset < last_group else "torn_tail"
                assert found.damage == expected, (offset, bit)
            else:
                assert found.damage is None
    assert verdicts == {None, "torn_tail", "corruption", "refused"}
