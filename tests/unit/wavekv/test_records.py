"""Records and groups against the golden files, in both directions."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.fakes.log import EVERY_OP, entry
from wavekv.core.codec.bincode import InvalidError, TruncatedError, varint
from wavekv.core.codec.records import (
    ChecksumError,
    UnknownOpError,
    decode_header,
    decode_op,
    decode_record,
    encode_group,
    encode_header,
    encode_op,
    encode_record,
)
from wavekv.core.ops import (
    AddPeer,
    Batch,
    Clear,
    IncrementSeq,
    Op,
    PushPeerLog,
    RemovePeer,
    Set,
    SetNextSeq,
    UpdateLocalAck,
    UpdatePeerAck,
)
from wavekv.core.types import Entry
from wavekv.wal.segment import Cause, Reader, Sequences, replay

VECTORS = Path(__file__).parents[2] / "vectors" / "wal"
NAMES = sorted(file.stem for file in VECTORS.glob("*.json"))

REFUSED = {
    "wrong-magic": InvalidError,
    "garbage": InvalidError,
    "torn-header": TruncatedError,
    "torn-header-length": TruncatedError,
    "zero-bytes": TruncatedError,
}
"""Files without a header to go by."""

NOT_CANONICAL = {
    "header-extra-bytes": "unread bytes in the header block",
    "record-extra-bytes": "unread bytes behind a checksum",
    "flip-length-short": "a length that takes in the next record's first byte",
    "varint-nonminimal": "an integer longer than need be",
    "nonminimal-crc-canonical": "an integer longer than need be",
    "nonminimal-crc-raw": "an integer longer than need be, and a checksum over the stored bytes",
    "wrong-version": "a header this version never writes",
}
"""Files whose valid part a writer of ours would not produce byte for byte."""

RECORDS_MORE_THAN_THE_CRATE = {"nonminimal-crc-raw": 2}
"""A checksum over the stored bytes is accepted (format, reading), which the original refuses."""

CAUSES = {
    "clean": None,
    "partial length": Cause.TORN_TAIL,
    "short record": Cause.TORN_TAIL,
    "bad checksum": Cause.CRC_MISMATCH,
    "undecodable": Cause.UNDECODABLE,
}


def _vector(name: str) -> tuple[bytes, dict[str, Any]]:
    return (VECTORS / f"{name}.wal").read_bytes(), json.loads((VECTORS / f"{name}.json").read_text())


def _large_values() -> dict[str, bytes]:
    """Return the values told by length and digest alone, by digest, as they stand in the files."""
    found = {}
    for name in ("value-1mib", "varint-len"):
        for version in ("c1", "c2"):
            data, told = _vector(f"{version}-{name}")
            for record in told["entries"]:
                value = record["op"]["entry"]["value"]
                if isinstance(value, dict):
                    # Key and option byte come before: the value lies where its own length leads to the right digest.
                    marker = data.index(b"\x01" + varint(value["len"]), record["offset"])
                    start = marker + 1 + len(varint(value["len"]))
                    stored = data[start : start + value["len"]]
                    assert sha256(stored).hexdigest() == value["sha256"]
                    found[value["sha256"]] = stored
    return found


def _entry(fields: dict[str, Any]) -> Entry:
    told = fields["value"]
    value = _LARGE[told["sha256"]] if isinstance(told, dict) else None if told is None else bytes.fromhex(told)
    return Entry(fields["key"], value, fields["ts"], fields["node"], fields["seq"])


def _op(fields: dict[str, Any]) -> Op:  # noqa: PLR0911 (one a kind)
    match fields["op"]:
        case "set":
            return Set(_entry(fields["entry"]))
        case "clear":
            return Clear(fields["key"])
        case "update_peer_ack":
            return UpdatePeerAck(fields["peer_id"], fields["ack_seq"], fields["monotonic"])
        case "update_local_ack":
            return UpdateLocalAck(fields["peer_id"], fields["ack_seq"], fields["monotonic"])
        case "push_peer_log":
            return PushPeerLog(fields["peer_id"], _entry(fields["entry"]), fields["max_entries"])
        case "increment_seq":
            return IncrementSeq()
        case "set_next_seq":
            return SetNextSeq(fields["seq"])
        case "add_peer":
            return AddPeer(fields["peer_id"])
        case "remove_peer":
            return RemovePeer(fields["peer_id"])
    raise AssertionError(fields)


_LARGE = _large_values()


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_file_reads_as_the_original_reads_it(name: str) -> None:
    data, told = _vector(name)
    case = name[3:]
    if case in REFUSED:
        with pytest.raises(REFUSED[case]):
            decode_header(data)
        return
    header = decode_header(data)
    expected = told["header"]
    assert (header.version, header.node_id, header.created_at_ms, header.end - 4) == (
        expected["version"],
        expected["node_id"],
        expected["created_at"],
        expected["header_len"],
    )
    reader = Reader(data, header)
    read = list(reader)
    if case in RECORDS_MORE_THAN_THE_CRATE:
        assert len(read) == RECORDS_MORE_THAN_THE_CRATE[case]
        assert reader.damage is None
        return
    wanted = [
        (record["offset"], record["len"], record["sequence"], _op(record["op"]), record["checksum"])
        for record in told["entries"]
    ]
    assert [(offset, length, *record[:3]) for offset, length, record in read] == wanted
    assert reader.valid_end == told["valid_end"]
    assert (reader.damage and reader.damage.cause) == CAUSES[told["tail"]]


@pytest.mark.parametrize("name", [name for name in NAMES if name[3:] not in REFUSED])
def test_fast_replay_and_record_reader_agree(name: str) -> None:
    data, _ = _vector(name)
    header = decode_header(data)
    reader = Reader(data, header)
    read = list(reader)
    ops: list[Op] = []
    scan = replay(data, header, ops.append, Sequences())
    assert ops == [record.op for _, _, record in read]
    assert (scan.valid_end, scan.damage) == (reader.valid_end, reader.damage)


@pytest.mark.parametrize("name", [name for name in NAMES if name[3:] not in {*REFUSED, *NOT_CANONICAL}])
def test_what_is_read_from_a_golden_file_is_written_back_byte_for_byte(name: str) -> None:
    data, told = _vector(name)
    header = told["header"]
    written = encode_header(header["node_id"], header["created_at"])
    for record in told["entries"]:
        written += encode_record(record["sequence"], _op(record["op"]))
    assert written == data[: told["valid_end"]]


def test_the_exceptions_named_above_exist() -> None:
    assert {*REFUSED, *NOT_CANONICAL, *RECORDS_MORE_THAN_THE_CRATE} <= {name[3:] for name in NAMES}


def test_a_group_is_the_marker_and_one_record_an_operation() -> None:
    data, records = encode_group(EVERY_OP, 41, 99)
    assert records == len(EVERY_OP) + 1
    reader = Reader(encode_header(1, 0) + data, decode_header(encode_header(1, 0)))
    read = [record for _, _, record in reader]
    assert [record.op for record in read] == [SetNextSeq(99), *EVERY_OP]
    assert [record.sequence for record in read] == list(range(41, 41 + records))


def test_a_second_marker_in_a_group_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError):
        encode_group([SetNextSeq(1)], 1, 1)


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: type(op).__name__)
def test_an_operation_cut_at_any_byte_is_truncated(op: Op) -> None:
    data = encode_op(op)
    assert decode_op(data, 0) == (op, len(data))
    for end in range(len(data)):
        with pytest.raises(TruncatedError):
            decode_op(data[:end], 0)


def test_a_batch_holds_no_batch_and_nothing_but_stores_and_clears() -> None:
    inner = encode_op(Batch((Clear("a"),)))
    for forbidden in (inner, b"\xfb\x0a\x00" + inner[1:], encode_op(IncrementSeq())):
        with pytest.raises(InvalidError):
            decode_op(b"\x0a\x01" + forbidden, 0)
    with pytest.raises(UnknownOpError):
        decode_op(b"\x0a\x01\x10", 0)


def _body(op: bytes, checksum: int | None = None) -> bytes:
    return b"\x01" + op + b"\xfc" + (crc32(op) if checksum is None else checksum).to_bytes(4, "little")


def test_an_unknown_operation_is_a_newer_version_only_with_a_good_checksum() -> None:
    with pytest.raises(UnknownOpError):
        decode_record(_body(b"\x10whatever"))
    with pytest.raises(InvalidError):
        decode_record(_body(b"\x10whatever", checksum=1))


@pytest.mark.parametrize(("limit", "tag"), [(1 << 16, b"\xfb"), (251, b"")])
def test_an_unknown_operation_is_known_by_a_short_checksum_too(limit: int, tag: bytes) -> None:
    # CRC is linear: four bytes at the end can be chosen for any checksum.
    op = _with_checksum_below(b"\x10", limit)
    checksum = crc32(op).to_bytes(2 if tag else 1, "little")
    with pytest.raises(UnknownOpError):
        decode_record(b"\x01" + op + tag + checksum)


def _with_checksum_below(prefix: bytes, limit: int) -> bytes:
    """Return `prefix` and some bytes whose checksum lies below `limit`, solved bit by bit over GF(2)."""
    base = crc32(prefix + bytes(4))
    rows = [(crc32(prefix + (1 << bit).to_bytes(4, "little")) ^ base, 1 << bit) for bit in range(32)]
    wanted, chosen = base ^ (limit - 1), 0
    for bit in reversed(range(32)):
        pivot = next(row for row in rows if row[0] >> bit & 1 and row[0] >> (bit + 1) == 0)
        rows = [
            row if row is pivot or not row[0] >> bit & 1 else (row[0] ^ pivot[0], row[1] ^ pivot[1]) for row in rows
        ]
        if wanted >> bit & 1:
            wanted, chosen = wanted ^ pivot[0], chosen ^ pivot[1]
    return prefix + chosen.to_bytes(4, "little")


def test_a_wrong_checksum_is_told_from_bytes_that_do_not_decode() -> None:
    with pytest.raises(ChecksumError):
        decode_record(_body(encode_op(Clear("a")), checksum=1))
    with pytest.raises(InvalidError):
        decode_record(_body(b"\x01\x01\xff"))


def test_a_checksum_below_2_to_the_16_is_written_short() -> None:
    seq = next(seq for seq in range(1, 1 << 20) if crc32(encode_op(Set(entry(seq)))) < 1 << 16)
    record = encode_record(1, Set(entry(seq)))
    assert record[-3] == 0xFB
    assert decode_record(record[4:]).op == Set(entry(seq))


@pytest.mark.parametrize("size", range(19))
def test_a_cut_header_is_truncated(size: int) -> None:
    header = encode_header(1, 1_700_000_000_000)
    assert len(header) == 19
    with pytest.raises(TruncatedError):
        decode_header(header[:size])


def test_a_header_that_announces_more_than_the_file_holds_is_refused_once_records_could_follow() -> None:
    record = encode_record(1, Clear("acknowledged"))
    with pytest.raises(InvalidError):
        decode_header(b"\xff\xff\xff\x7f" + encode_header(1, 1_700_000_000_000)[4:] + record)


def test_the_worked_example_of_the_format_document_is_what_is_written() -> None:
    document = (Path(__file__).parents[3] / "docs" / "format.md").read_text()
    example = document.partition("## Worked example")[2].split("```")[1]
    told = bytes.fromhex("".join(re.split(r"  +", line)[0] for line in _with_margin(example)))
    group, _ = encode_group([Set(Entry("a", b"1", 100, 1, 1)), Set(Entry("k", None, -1, 2, 251))], 1, 3)
    assert encode_header(1, 1_700_000_000_000) + group == told


def _with_margin(example: str) -> list[str]:
    """Return the example's lines, the bytes (first 34 columns) set off from the remark."""
    return [f"{line[:34].rstrip()}  {line[34:]}" for line in example.strip("\n").splitlines()]
