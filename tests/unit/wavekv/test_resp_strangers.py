"""What one client of the Redis plane can make of what it is told, and of commands of very many words, has a bound."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.fakes.planes import Plane, plane, resp_plane
from tests.unit.wavekv.test_resp_told import Raw
from wavekv.config import Limits
from wavekv.core.types import Entry
from wavekv.ports import Change, Written
from wavekv.resp import replies, subscribing
from wavekv.resp.channels import KEYSPACE, Channels
from wavekv.resp.events import OUTBOX_BYTES, Outbox
from wavekv.resp.tracking import OWN_MAX

LIMITS = replace(Limits(), resp_subscriptions_max=4, resp_queued_arguments_max=40, resp_watched_max=3)


@pytest.fixture
async def resp() -> AsyncIterator[Plane]:
    async with plane(resp_plane, LIMITS) as serving:
        yield serving


@pytest.fixture
async def raw(resp: Plane) -> AsyncIterator[Raw]:
    connection = Raw(*await asyncio.open_connection("127.0.0.1", resp.port))
    await connection.ask("HELLO 3")
    yield connection
    connection.writer.close()


class Hearing:
    """A connection that is told; in which turn of the loop, how much."""

    turn = 0

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []

    def push(self, data: bytes) -> None:
        self.heard.append((Hearing.turn, data))


async def _count_turns() -> None:
    while True:
        Hearing.turn += 1
        await asyncio.sleep(0)


# ---- what many are told of one change --------------------------------------------------------------------------------


async def test_what_waits_for_many_subscribers_is_bounded_and_sent_over_many_turns() -> None:
    channels, outbox = Channels(64), Outbox()
    everybody = [Hearing() for _ in range(300)]
    for number in range(20):
        for one in everybody:
            channels.subscribe_all(one, b"__key" + b"*" * (900 + number), 2, None)
    change = Change("put", "k" * 1000, Entry("k" * 1000, b"v", 1, 1, 1), "token")
    counting = asyncio.ensure_future(_count_turns())
    most = 0
    added = outbox.add

    def add(receiver: Hearing, message: bytes) -> None:
        nonlocal most
        added(receiver, message)
        most = max(most, outbox._bytes)

    outbox.add = add  # type: ignore[method-assign, assignment]
    await channels.tell(change, outbox)
    await outbox.send()
    counting.cancel()
    assert OUTBOX_BYTES <= most < OUTBOX_BYTES + 4096
    assert outbox._bytes == 0
    pushed: dict[int, int] = {}
    for one in everybody:
        assert b"".join(data for _, data in one.heard).count(b"pmessage") == 2 * 20
        for turn, _ in one.heard:
            pushed[turn] = pushed.get(turn, 0) + 1
    assert max(pushed.values()) <= 64


async def test_what_waits_is_sent_before_a_connection_is_told_no_more(resp: Plane) -> None:
    for leaving in ("UNSUBSCRIBE", "RESET"):
        one = Raw(*await asyncio.open_connection("127.0.0.1", resp.port))
        await one.ask("SUBSCRIBE __keyspace@0__:a")
        shared = resp.server._shared
        session = max(shared.sessions.values(), key=lambda session: session.number)
        shared.events._outbox.add(session.receiver, replies.push([b"message", KEYSPACE + b"a", b"set"], 2))
        one.writer.write(f"{leaving}\r\nGET a\r\n".encode())
        assert await one.value() == b"*[message __keyspace@0__:a set]"
        assert (await one.value()) in {b"*[unsubscribe __keyspace@0__:a :0]", b"+RESET"}
        assert await one.value() == b"$-1"  # a message here would be taken for the reply
        one.writer.close()


async def test_a_client_that_left_while_others_were_told_is_told_nothing_more() -> None:
    channels, outbox = Channels(1), Outbox()
    everybody = [Hearing() for _ in range(600)]
    for one in everybody:
        channels.subscribe(one, KEYSPACE + b"a", 2)
    telling = asyncio.ensure_future(channels.tell(Change("delete", "a", None, "token"), outbox))
    await asyncio.sleep(0)
    last = everybody[-1]
    channels.unsubscribe(last, KEYSPACE + b"a")
    await telling
    await outbox.send()
    assert not last.heard
    assert all(one.heard for one in everybody[:-1])


# ---- caches ----------------------------------------------------------------------------------------------------------


async def test_tracking_that_is_asked_for_again_keeps_what_was_read(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON")
    await raw.ask("GET a")
    assert await raw.ask("CLIENT TRACKING ON NOLOOP") == [b"+OK"]
    await resp.store.put("a", b"1")
    assert await raw.value() == b">[invalidate *[a]]"


async def test_more_prefixes_join_those_there_are(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON BCAST PREFIX a")
    await raw.ask("CLIENT TRACKING ON BCAST PREFIX b")
    held = resp.server._shared.sessions[1].held_bytes
    await raw.ask("CLIENT TRACKING ON BCAST")
    assert resp.server._shared.sessions[1].held_bytes == held
    for key in ("a1", "b1"):
        await resp.store.put(key, b"1")
        assert await raw.value() == b">[invalidate *[%b]]" % key.encode()
    await raw.ask("CLIENT TRACKING OFF")
    assert resp.server._shared.sessions[1].held_bytes == 0
    assert not resp.server._shared.tracker._prefixes


async def test_with_noloop_the_next_write_of_another_is_told_too(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON NOLOOP")
    await raw.ask("GET a")
    await raw.ask("SET a own")  # the client keeps it in its cache
    await resp.store.put("a", b"another")
    assert await raw.value() == b">[invalidate *[a]]"


async def test_own_writes_are_remembered_until_they_are_told_and_no_longer(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON NOLOOP")
    for number in range(20):
        await raw.ask(f"SET k{number} v")  # nobody reads these
    await raw.ask("GET a")
    await resp.store.put("a", b"1")
    assert await raw.value() == b">[invalidate *[a]]"
    tracker = resp.server._shared.tracker
    assert len(tracker._own) == 0
    entry = (await resp.store.put("b", b"1")).entry
    session = resp.server._shared.sessions[1]
    for seq in range(OWN_MAX + 5):
        tracker.wrote(session.tracking, Written(entry._replace(seq=1000 + seq), None))
    assert len(tracker._own) == OWN_MAX


async def test_what_was_said_of_caching_holds_for_a_whole_transaction(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON OPTIN")
    await raw.ask("CLIENT CACHING YES")
    for words in ("MULTI", "GET a", "GET b", "EXEC", "GET c"):
        await raw.ask(words)
    for key in ("c", "a"):
        await resp.store.put(key, b"1")
    assert await raw.value() == b">[invalidate *[a]]"
    await resp.store.put("b", b"1")
    assert await raw.value() == b">[invalidate *[b]]"


async def test_what_was_said_of_caching_ends_with_the_next_command_whatever_it_is(resp: Plane, raw: Raw) -> None:
    await raw.ask("CLIENT TRACKING ON OPTOUT")
    await raw.ask("CLIENT CACHING NO")
    await raw.ask("PING")
    await raw.ask("GET a")
    await resp.store.put("a", b"1")
    assert await raw.value() == b">[invalidate *[a]]"


# ---- commands of very many words -------------------------------------------------------------------------------------


async def test_no_subscriber_names_more_than_it_may_subscribe_to(raw: Raw) -> None:
    answers = await raw.ask("SUBSCRIBE" + " __keyspace@0__:a" * 5, 5)
    assert answers[3] == b">[subscribe __keyspace@0__:a :1]"
    assert answers[4] == b"-ERR a connection subscribes 4 times at most"
    assert (await raw.ask("UNSUBSCRIBE" + " b" * 4, 4))[3] == b">[unsubscribe b :1]"
    assert (await raw.ask("UNSUBSCRIBE" + " b" * 5))[0].startswith(b"-ERR a connection subscribes 4 times at most")
    assert await raw.ask("UNSUBSCRIBE") == [b">[unsubscribe __keyspace@0__:a :0]"]


async def test_patterns_are_made_ready_one_a_slice_and_no_message_comes_before_its_confirmation(
    resp: Plane, raw: Raw
) -> None:
    await raw.ask("PING")
    session = resp.server._shared.sessions[1]
    making = subscribing.psubscribe(session, [b"PSUBSCRIBE", b"__key*a", b"__key*b", b"__key*a"])
    assert not isinstance(making, bytes)
    for _ in range(2):
        making.send(None)
        assert not resp.server._shared.channels.listens
    with pytest.raises(StopIteration) as end:
        making.send(None)
    assert end.value.value.count(b"psubscribe") == 3
    assert resp.server._shared.channels.count_patterns() == 2


async def test_channels_are_listed_in_slices_and_bounded(resp: Plane, raw: Raw) -> None:
    await raw.ask("PING")
    session = resp.server._shared.sessions[1]
    hearing = Hearing()
    for number in range(2000):
        resp.server._shared.channels.subscribe(hearing, KEYSPACE + b"%d" % number, 2)
    listing = subscribing.pubsub(session, [b"PUBSUB", b"CHANNELS"])
    assert not isinstance(listing, bytes)
    assert sum(1 for _ in listing) == 2000 // subscribing.NAMES_PER_SLICE
    costly = subscribing.pubsub(session, [b"PUBSUB", b"CHANNELS", b"*" + b"[a-z]" * 200])
    assert not isinstance(costly, bytes)
    assert sum(1 for _ in costly) > 100
    most = LIMITS.resp_pattern_bytes_max
    assert await raw.ask("PUBSUB CHANNELS " + "x" * most) == [b"*[]"]
    assert b"at most 1024 are allowed" in (await raw.ask("PUBSUB CHANNELS " + "x" * (most + 1)))[0]
    resp.server._shared.limits = replace(LIMITS, resp_replies_bytes_max=1000)
    assert b"exceed 1000 bytes together" in (await raw.ask("PUBSUB CHANNELS"))[0]


async def test_a_watch_of_very_many_names_is_refused_by_their_number(raw: Raw) -> None:
    assert await raw.ask("WATCH" + " a b c" * 500) == [b"+OK"]
    assert b"watches 3 keys at most" in (await raw.ask("WATCH a b c d"))[0]


async def test_a_transaction_has_so_many_arguments_and_no_more(raw: Raw) -> None:
    await raw.ask("MULTI")
    assert await raw.ask("EXISTS" + " a" * 19) == [b"+QUEUED"]
    assert await raw.ask("EXISTS" + " a" * 19) == [b"+QUEUED"]
    assert await raw.ask("EXEC") == [b"*[:0 :0]"]
    await raw.ask("MULTI")
    assert await raw.ask("EXISTS" + " a" * 39) == [b"+QUEUED"]
    assert b"40 arguments at most" in (await raw.ask("PING"))[0]
    assert (await raw.ask("EXEC"))[0].startswith(b"-EXECABORT")
