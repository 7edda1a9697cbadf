"""Whatever an operation holds, its bytes bring it back; any bytes end in a value or a refusal."""

from hypothesis import example, given
from hypothesis import strategies as st

from wavekv.core.codec.bincode import DecodeError
from wavekv.core.codec.records import decode_header, decode_op, decode_record, encode_header, encode_op, encode_record
from wavekv.core.ops import (
    AddPeer,
    Batch,
    Clear,
    Cover,
    DropOrigins,
    Floor,
    IncrementSeq,
    Op,
    Process,
    Promise,
    PushPeerLog,
    RemovePeer,
    Set,
    SetExpiring,
    SetNextSeq,
    UpdateLocalAck,
    UpdatePeerAck,
)
from wavekv.core.types import I64_MAX, I64_MIN, U32_MAX, U64_MAX, Entry
from wavekv.wal.segment import Sequences, replay

EDGES = (0, 1, 250, 251, 65535, 65536)
U32 = st.sampled_from((*EDGES, U32_MAX)) | st.integers(0, U32_MAX)
U64 = st.sampled_from((*EDGES, U32_MAX, U32_MAX + 1, U64_MAX)) | st.integers(0, U64_MAX)
I64 = st.sampled_from((I64_MIN, -1, 0, I64_MAX)) | st.integers(I64_MIN, I64_MAX)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
VALUES = st.none() | st.binary(max_size=300)
ENTRIES = st.builds(Entry, KEYS, VALUES, I64, U32, U64, st.none())
SETS = st.builds(Set, ENTRIES)
CLEARS = st.builds(Clear, KEYS)
EXPIRING = st.builds(SetExpiring, st.builds(Entry, KEYS, VALUES, I64, U32, U64, I64))
OPS: st.SearchStrategy[Op] = st.one_of(
    SETS,
    CLEARS,
    st.builds(UpdatePeerAck, U32, U64, st.booleans()),
    st.builds(UpdateLocalAck, U32, U64, st.booleans()),
    st.builds(PushPeerLog, U32, ENTRIES, U64),
    st.just(IncrementSeq()),
    st.builds(SetNextSeq, U64),
    st.builds(AddPeer, U32),
    st.builds(RemovePeer, U32),
    EXPIRING,
    st.builds(Batch, st.lists(st.one_of(SETS, CLEARS, EXPIRING), max_size=4).map(tuple)),
    st.builds(Cover, U32, U64, U64),
    st.builds(Floor, I64),
    st.builds(Promise, I64),
    st.builds(DropOrigins, I64, st.lists(st.tuples(U32, U64), max_size=4).map(tuple)),
    st.builds(Process, U64, U32, st.booleans()),
)


@given(OPS)
def test_an_operation_comes_back_from_its_bytes(op: Op) -> None:
    data = encode_op(op)
    assert decode_op(data, 0) == (op, len(data))


@given(st.lists(st.tuples(U64, OPS), max_size=6))
@example([(70_000, Set(Entry("k", b"v" * size, 1_700_000_000_000, U32_MAX, 70_000))) for size in (0, 250, 251, 65_535)])
def test_records_come_back_from_a_segment_in_order(records: list[tuple[int, Op]]) -> None:
    header = encode_header(1, 0)
    data = header + b"".join(encode_record(sequence, op) for sequence, op in records)
    ops: list[Op] = []
    scan = replay(data, decode_header(header), ops.append, Sequences())
    assert ops == [op for _, op in records]
    assert (scan.records, scan.valid_end, scan.damage) == (len(records), len(data), None)


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(body: bytes) -> None:
    try:
        record = decode_record(body)
    except DecodeError:
        return
    assert encode_op(record.op)


@given(U32, I64)
def test_a_header_comes_back_from_its_bytes(node_id: int, created_at_ms: int) -> None:
    data = encode_header(node_id, created_at_ms)
    assert decode_header(data) == (1, node_id, created_at_ms, len(data), len(data))
