"""Whatever a member can say, another reads as it was said; whatever else arrives is refused, and no worse."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavekv.core.codec.envelope import decode_envelope, encode_envelope, pack, unpack
from wavekv.core.messages import Envelope, Page, Ranges
from wavekv.core.types import I64_MAX, I64_MIN, U32_MAX, U64_MAX, Entry
from wavekv.errors import BadEnvelope

U32 = st.integers(0, U32_MAX)
U64 = st.integers(0, U64_MAX)
I64 = st.integers(I64_MIN, I64_MAX)
DOTS = st.tuples(U32, U64)
NAMES = st.text(min_size=1, max_size=20)
ENTRIES = st.builds(Entry, st.text(max_size=20), st.none() | st.binary(max_size=40), I64, U32, U64, st.none() | I64)


def apart(bounds: set[int]) -> Ranges:
    """Return ranges that ascend and do not touch, from an even number of sorted bounds."""
    ends = sorted(bounds)
    return tuple(
        (first * 2 + 1, last * 2)
        for first, last in zip(ends[::2], ends[1::2], strict=False)
        if first * 2 + 1 <= last * 2
    )


RANGES = st.sets(st.integers(1, 2**40), max_size=8).map(apart)
ENVELOPES = st.builds(
    Envelope,
    sender_id=U32,
    sender_uuid=st.binary(max_size=16),
    acks=st.dictionaries(U32, U64, max_size=5),
    entries=st.lists(ENTRIES, max_size=5).map(tuple),
    digest=st.none() | st.binary(min_size=32, max_size=32),
    page=st.none() | st.builds(Page, DOTS, st.booleans()),
    resume_from=st.none() | DOTS,
    reset_acks=st.booleans(),
    push_only=st.booleans(),
    version=st.integers(0, 1),
    name=st.none() | NAMES,
    inc=st.none() | U64,
    since=st.none() | U64,
    dots=st.dictionaries(U32, RANGES, max_size=3),
    healing=st.booleans(),
    floor=st.none() | I64,
    now_ms=st.none() | I64,
    promised=st.none() | I64,
    horizon=st.none() | I64,
    epoch=st.none() | U64,
    members=st.none() | st.lists(NAMES, max_size=4).map(tuple),
    buckets=st.none() | st.lists(U64, max_size=8).map(tuple),
    page_pos=st.none() | U64,
    cluster_id=st.none() | st.uuids().map(str),
    origin=st.none() | U32,
)


@given(ENVELOPES)
def test_an_envelope_is_read_as_it_was_written(envelope: Envelope) -> None:
    assert decode_envelope(encode_envelope(envelope)) == envelope
    assert unpack(pack(envelope), 1 << 20, 1 << 20) == envelope


@given(ENVELOPES, st.data())
def test_every_cut_of_a_message_is_refused(envelope: Envelope, data: st.DataObject) -> None:
    packed = encode_envelope(envelope)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(BadEnvelope):
        decode_envelope(packed[:cut])


def read_or_refused(read: Callable[[bytes], Envelope], data: bytes) -> bool:
    """Tell whether `data` is taken as an envelope or refused as none; anything else is raised."""
    try:
        return isinstance(read(data), Envelope)
    except BadEnvelope:
        return True


@given(ENVELOPES, st.data())
def test_a_flipped_byte_is_read_or_refused_and_never_worse(envelope: Envelope, data: st.DataObject) -> None:
    packed = bytearray(encode_envelope(envelope))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    assert read_or_refused(decode_envelope, bytes(packed))


@given(st.binary(max_size=200))
def test_noise_is_read_or_refused_and_never_worse(noise: bytes) -> None:
    assert read_or_refused(decode_envelope, noise)
    assert read_or_refused(lambda body: unpack(body, 1 << 20, 1 << 20), noise)
