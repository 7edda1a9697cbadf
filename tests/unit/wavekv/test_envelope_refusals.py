"""What the envelope codec refuses beyond the golden files: our own fields, broken gzip, and messages made to hurt."""

import gzip
import resource
import zlib
from typing import Any

import msgpack
import pytest

from wavekv.core.codec.envelope import decode_envelope, encode_envelope, pack, unpack, unpack_push_answer
from wavekv.core.messages import Envelope
from wavekv.core.types import I64_MAX, I64_MIN, U64_MAX
from wavekv.errors import BadEnvelope, EnvelopeTooLarge

MINIMAL: dict[str, Any] = {"version": 1, "sender_id": 2, "sender_uuid": b"u"}
BODY = pack(Envelope(sender_id=2))
WIRE_MAX, INFLATED_MAX = 1 << 20, 1 << 20


def decoded(**fields: Any) -> Envelope:
    return decode_envelope(msgpack.packb(MINIMAL | fields))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", 5),
        ("inc", -1),
        ("inc", True),
        ("inc", U64_MAX * 1.0),
        ("since", None),
        ("since", -1),
        ("healing", 1),
        ("healing", None),
        ("floor", 2**63),
        ("floor", 1.5),
        ("now_ms", None),
        ("epoch", -1),
        ("epoch", "1"),
        ("members", "m0"),
        ("members", ["m0", 1]),
        ("buckets", [-1]),
        ("buckets", None),
        ("page_pos", -1),
        ("cluster_id", 1),
        ("cluster_id", None),
        ("dots", None),
        ("dots", [[1, 2]]),
        ("dots", {"1": [[1, 2]]}),
        ("dots", {2**32: [[1, 2]]}),
        ("dots", {1: [1, 2]}),
        ("dots", {1: [[1, 2, 3]]}),
        ("dots", {1: [[0, 2]]}),
        ("dots", {1: [[3, 2]]}),
        ("dots", {1: [[5, 6], [1, 2]]}),
        ("dots", {1: [[1, 4], [4, 6]]}),
        ("dots", {1: [[1, True]]}),
    ],
)
def test_a_field_of_our_own_is_checked_as_strictly_and_named(field: str, value: object) -> None:
    with pytest.raises(BadEnvelope, match=field):
        decoded(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("floor", I64_MIN), ("floor", I64_MAX), ("inc", U64_MAX), ("since", 0), ("epoch", 0)]
)
def test_the_ends_of_a_range_are_taken(field: str, value: int) -> None:
    assert getattr(decoded(**{field: value}), field) == value


@pytest.mark.parametrize("expires_at", [None, 2**63, 1.5, True, "1"])
def test_an_expiry_that_is_not_a_time_is_refused(expires_at: object) -> None:
    entry = {"key": "k", "value": b"", "meta": {"node": 1, "seq": 1, "timestamp": 1}, "expires_at": expires_at}
    with pytest.raises(BadEnvelope, match="expires_at"):
        decoded(entries=[entry])


@pytest.mark.parametrize("raw", [{"node": True, "seq": 1, "timestamp": 1}, [1, 1], [1, 1, 1, 1], {"node": 1, "seq": 1}])
def test_a_stamp_of_the_wrong_shape_is_refused(raw: object) -> None:
    with pytest.raises(BadEnvelope):
        decoded(entries=[{"key": "k", "value": b"", "meta": raw}])


def test_unknown_fields_are_skipped_at_every_level() -> None:
    entry = {"key": "k", "value": b"", "meta": {"node": 1, "seq": 1, "timestamp": 1, "new": {}}, "new": [1]}
    said = decoded(entries=[entry], page={"cursor": [1, 2], "last": False, "new": 1}, list=[["k", 1, 1, 1]])
    assert [held.key for held in said.entries] == ["k"]
    assert said.page is not None


def test_fields_that_say_nothing_are_not_written() -> None:
    names = msgpack.unpackb(encode_envelope(Envelope(sender_id=1, name="m", since=0)), strict_map_key=False)
    assert list(names)[10:] == ["name", "since"]


@pytest.mark.parametrize("cut", range(len(BODY)))
def test_a_gzip_body_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(BadEnvelope):
        unpack(BODY[:cut], WIRE_MAX, INFLATED_MAX)


@pytest.mark.parametrize("body", [BODY + b"\0", BODY + BODY, b"plain", zlib.compress(b"not gzip"), BODY[:-1] + b"\xff"])
def test_a_body_that_is_not_exactly_one_gzip_member_is_refused(body: bytes) -> None:
    with pytest.raises(BadEnvelope):
        unpack(body, WIRE_MAX, INFLATED_MAX)


def test_the_bounds_are_inclusive() -> None:
    inflated = len(gzip.decompress(BODY))
    assert unpack(BODY, len(BODY), inflated) == Envelope(sender_id=2)
    with pytest.raises(EnvelopeTooLarge):
        unpack(BODY, len(BODY) - 1, inflated)
    with pytest.raises(EnvelopeTooLarge):
        unpack(BODY, len(BODY), inflated - 1)


def test_the_answer_to_a_push_may_be_empty_in_two_ways_or_a_report() -> None:
    assert unpack_push_answer(b"", WIRE_MAX, INFLATED_MAX) is None
    assert unpack_push_answer(gzip.compress(b""), WIRE_MAX, INFLATED_MAX) is None
    assert unpack_push_answer(BODY, WIRE_MAX, INFLATED_MAX) == Envelope(sender_id=2)
    with pytest.raises(BadEnvelope):
        unpack(gzip.compress(b""), WIRE_MAX, INFLATED_MAX)


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def gzip_of_zeros(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    chunk = bytes(1 << 20)
    return b"".join(packer.compress(chunk) for _ in range(size >> 20)) + packer.flush()


def test_a_body_that_inflates_to_a_gibibyte_is_refused_within_the_bound() -> None:
    body = gzip_of_zeros(1 << 30)
    before = peak_kib()
    with pytest.raises(EnvelopeTooLarge):
        unpack(body, 16 << 20, 8 << 20)
    assert peak_kib() - before < 64 << 10


@pytest.mark.parametrize(
    "packed",
    [
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x81\xa1x" + b"\xdd\x00\x10\x00\x00" * 900 + b"\xc0" * (1 << 20),
        b"\x81\xa1x\xdd" + ((1 << 20) + 1).to_bytes(4, "big") + b"\xc0" * ((1 << 20) + 1),
    ],
    ids=["deep", "array", "map", "string", "bin", "arrays in arrays", "one item too many"],
)
def test_a_message_that_declares_more_than_it_holds_is_refused_within_memory(packed: bytes) -> None:
    before = peak_kib()
    with pytest.raises(BadEnvelope):
        decode_envelope(packed)
    assert peak_kib() - before < 256 << 10
