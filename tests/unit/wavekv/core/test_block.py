"""A block is refused by name, fits or is looked at one by one, and what stands beside it stays."""

from array import array
from dataclasses import replace
from zlib import crc32

import msgpack
import pytest

from tests.fakes.cluster import LIMITS, MemoryMember, cluster, merge_block, wire
from wavekv.config import Limits
from wavekv.core import exchange
from wavekv.core.block import Block
from wavekv.core.codec.envelope import decode_envelope, encode_envelope
from wavekv.core.codec.records import encode_group, encode_op
from wavekv.core.context import Context
from wavekv.core.delta import delta_page
from wavekv.core.dot_order import BLOCK_MAX, DotOrder
from wavekv.core.loading import FreshLoader
from wavekv.core.messages import Envelope
from wavekv.core.ops import Clear, Set, StoreBlock, as_records
from wavekv.core.ordered import KeyOrder
from wavekv.core.packed import pack
from wavekv.core.store import Store
from wavekv.core.types import Entry
from wavekv.errors import BadEnvelope
from wavekv.wal.reserve import vital

NOW = 10_000


def entry(key: str, seq: int, value: bytes | None = b"v", timestamp: int = 1, origin: int = 7) -> Entry:
    return Entry(key, value, timestamp, origin, seq)


def block(*entries: Entry) -> Block:
    return Block([one.key for one in entries], list(map(pack, entries)))


@pytest.mark.parametrize(
    ("keys", "packed", "why"),
    [
        ((), (), "there is no entry"),
        (("a", "a"), (pack(entry("a", 1)), pack(entry("a", 2))), "given twice"),
        (("a",), (pack(entry("a", 1))[:20],), "cut short"),
        (("a",), (pack(entry("a", 1, None)) + b"v",), "not well-formed"),
        (("a",), (pack(entry("a", 1))[:20] + b"\x07",), "not well-formed"),
        (("a", "b"), (pack(entry("a", 2)), pack(entry("b", 1))), "do not ascend"),
        (("a", "b"), (pack(entry("a", 1)), pack(entry("b", 1))), "do not ascend"),
        (("a", "b"), (pack(entry("a", 1)), pack(entry("b", 2, origin=3))), "do not ascend"),
        (("a", "b", "c"), tuple(pack(entry("", seq, origin=o)) for seq, o in ((1, 1), (2, 2), (3, 1))), "not ascend"),
    ],
)
def test_what_is_no_block_is_refused_by_name(keys: tuple[str, ...], packed: tuple[bytes, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Block(keys, packed).check()


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ({"keys": ["a"], "packed": []}, "as many keys"),
        ({"keys": ["a"]}, "as many keys"),
        ({"keys": [1], "packed": [pack(entry("a", 1))]}, "keys have to be strings"),
        ({"keys": ["a"], "packed": ["text"]}, "packed entries bytes"),
        ({"keys": [], "packed": []}, "there is no entry"),
        (7, "neither a map nor an array"),
    ],
)
def test_a_message_with_a_bad_block_is_refused_by_name(field: object, why: str) -> None:

    fields = msgpack.unpackb(encode_envelope(Envelope(sender_id=1)), strict_map_key=False)
    with pytest.raises(BadEnvelope, match=why):
        decode_envelope(msgpack.packb(fields | {"block": field}))


def merged(limits: Limits, *entries: Entry) -> tuple[int, dict[str, int]]:
    member = MemoryMember(0, ("m0",), limits)
    result = merge_block(member.replica, block(*entries), NOW)
    member.commit()
    assert len(member.store.packed) == result.stored
    return result.stored, dict(result.refused)


def test_what_does_not_fit_is_refused_and_the_rest_is_taken() -> None:
    four = [entry(f"k{seq}", seq, b"12345678") for seq in range(1, 5)]
    assert merged(LIMITS, *four) == (4, {})
    assert merged(replace(LIMITS, entries_max=4), *four) == (4, {})
    assert merged(replace(LIMITS, entries_max=3), *four) == (3, {"limit_reached": 1})
    assert merged(replace(LIMITS, bytes_max=40), *four) == (4, {})
    assert merged(replace(LIMITS, bytes_max=30), *four) == (3, {"limit_reached": 1})
    assert merged(replace(LIMITS, wire_value_bytes_max=8), *four) == (4, {})
    assert merged(replace(LIMITS, wire_value_bytes_max=8), *four, entry("k", 5, b"123456789")) == (
        4,
        {"value_too_large": 1},
    )
    assert merged(replace(LIMITS, wire_key_bytes_max=3), entry("é", 1), entry("éé", 2)) == (1, {"key_too_large": 1})
    assert merged(LIMITS, entry("a", 0), entry("b", 1)) == (1, {"bad_sequence": 1})
    late = NOW + LIMITS.future_ms_max
    assert merged(LIMITS, entry("a", 1, timestamp=late), entry("b", 2, timestamp=late + 1)) == (
        1,
        {"future_timestamp": 1},
    )


def test_a_sequence_of_ours_that_we_never_issued_is_refused() -> None:
    member = MemoryMember(0, ("m0",))
    own = member.put("mine", b"", NOW)
    forged = entry("forged", own.seq + 1, origin=own.origin)
    result = merge_block(member.replica, block(*sorted((forged, entry("a", 1)), key=lambda one: one.dot)), NOW)
    assert (result.stored, dict(result.refused)) == (1, {"claimed_sequence": 1})


def test_a_key_about_to_be_removed_is_stored_anew_behind_its_removal() -> None:
    member = MemoryMember(0, ("m0",))
    member.replica.merge([entry("k", 1)], NOW)
    member.commit()
    member.replica.forget(["k"])
    assert merge_block(member.replica, block(entry("a", 2), entry("k", 3, b"new")), NOW).stored == 2
    member.commit()
    assert (member.value("a"), member.value("k")) == (b"v", b"new")


def test_a_key_that_a_staged_block_has_is_compared_with_it() -> None:
    member = MemoryMember(0, ("m0",))
    merge_block(member.replica, block(entry("k", 1, b"newer", 5)), NOW)
    assert merge_block(member.replica, block(entry("a", 2), entry("k", 3, b"older", 4)), NOW).stored == 1
    member.commit()
    assert member.value("k") == b"newer"
    assert member.store.context.acks == {7: 3}


def test_what_is_staged_is_told_once_for_each_key() -> None:
    member = MemoryMember(0, ("m0",))
    merge_block(member.replica, block(entry("a", 1), entry("k", 2)), NOW)
    own = member.replica.put("k", b"mine", NOW).entry
    assert sorted(member.replica.staged()) == [entry("a", 1), own]


def test_a_key_removed_and_stored_again_before_the_digest_is_settled_counts_once() -> None:
    loader = FreshLoader(100)
    for seq in range(1, 4):
        loader.apply(Set(entry(f"k{seq}", seq)))
    late, plain = loader.store(), Store(100)
    assert late.digest() is None
    for op in (Clear("k2"), StoreBlock(block(entry("k2", 4), entry("n", 5)))):
        late.apply(op)
    while late.settle(1):
        pass
    for seq, key in ((1, "k1"), (3, "k3"), (4, "k2"), (5, "n")):
        plain.apply(Set(entry(key, seq)))
    assert late.digest() == plain.digest()
    assert list(late._keys) == ["k1", "k2", "k3", "n"]


def test_a_record_with_a_short_checksum_is_written_short() -> None:
    wide = (entry(f"k{seq}", seq, timestamp=2**41, origin=70_000) for seq in range(65_536, 10**6))
    short = next(one for one in wide if crc32(encode_op(Set(one))) <= 0xFFFF)
    ops = [StoreBlock(block(short))]
    assert encode_group(ops, 70_000, 1) == encode_group(list(as_records(ops)), 70_000, 1)


def test_only_a_block_of_deletes_takes_from_the_reserve() -> None:
    assert vital(StoreBlock(block(entry("a", 1, None))))
    assert not vital(StoreBlock(block(entry("a", 1, None), entry("b", 2))))


def test_the_bytes_of_a_key_count_in_a_page_not_its_characters() -> None:
    store = Store(10)
    for seq, key in enumerate(("é" * 10, "b"), start=1):
        store.apply(Set(entry(key, seq)))
    both = sum(len(pack(held)) + len(held.key.encode()) + 11 for held in store.entries.values())
    assert len(delta_page(store, Context(), None, replace(LIMITS, page_bytes_max=both)).keys) == 2
    assert len(delta_page(store, Context(), None, replace(LIMITS, page_bytes_max=both - 1)).keys) == 1


@pytest.mark.parametrize("step", [1, 7, 613, 5000, 9001])
def test_many_keys_together_come_to_the_same_order(step: int) -> None:
    first = [f"{number:06}a" for number in range(0, 40 * BLOCK_MAX, 2)]
    second = [f"{number:06}b" for number in range(3, 50 * BLOCK_MAX, step)]
    order = KeyOrder()
    order.extend(first)
    order.extend(second)
    assert list(order) == sorted(first + second)
    assert len(order) == len(first) + len(second)
    for start in ("", first[7000], second[-1], "~"):
        assert list(order.behind(start, inclusive=False)) == [key for key in sorted(first + second) if key > start]
    for key in second:
        order.remove(key)
    assert list(order) == first


@pytest.mark.parametrize("begins", [[1, 600], [600, 1], [513, 1], [1, 513], [1, 2, 700]])
def test_many_sequences_together_come_to_the_same_order(begins: list[int]) -> None:
    order, model = DotOrder(), dict[int, str]()
    for place, begin in enumerate(begins):
        seqs = array("Q", (seq for seq in range(begin, begin + 512) if seq not in model))
        names = [f"{place}/{seq}" for seq in seqs]
        order.extend(seqs, names)
        model.update(zip(seqs, names, strict=True))
    found = [pair for seqs, names in order.stretches(0) for pair in zip(seqs, names, strict=True)]
    assert found == sorted(model.items())
    assert [order.get(seq) for seq in range(1300)] == [model.get(seq) for seq in range(1300)]


def test_a_push_with_a_block_is_refused_and_nothing_of_it_is_covered() -> None:
    sender, receiver = cluster(2)
    message = exchange.push_message(sender.replica, (), {7: ((1, 1),)}, NOW)
    with pytest.raises(BadEnvelope, match="never in a block"):
        exchange.receive_push(receiver.replica, wire(replace(message, block=block(entry("k", 1)))), NOW)
    receiver.commit()
    assert not receiver.store.context.covers(7, 1)


def test_a_watcher_may_fall_a_few_pages_behind() -> None:
    limits = Limits()
    assert limits.watch_waiting_max >= 3 * limits.page_entries_max, "a page is told in one turn"
