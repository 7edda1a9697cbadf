"""How much one Redis client may do in a turn of the loop, hold in bytes, and take its time for."""

import asyncio
import re
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.key_values import FakeClock, FakeKeyValues, Operations
from wavekv.config import Limits
from wavekv.resp import turns
from wavekv.resp.framing import READ_AT_ONCE, UNFINISHED, BadProtocol, CommandReader
from wavekv.resp.globs import matches
from wavekv.resp.keyspace import DELETES_PER_SLICE
from wavekv.resp.server import RespServer
from wavekv.resp.turns import KEYS_PER_SLICE, STEPS_PER_SHARE, STEPS_PER_TURN, Turns
from wavekv.runtime.budget import ByteBudget

FREE = 1 << 14
"""What a connection may hold without taking it from the budget."""


def words(*given: bytes) -> bytes:
    return b"*%d\r\n" % len(given) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in given)


class FakeTransport:
    """A client's end: keeps what is written, and takes it only when told to, unless `takes`."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.written: list[bytes] = []
        self.unsent = 0
        self.reading = True
        self.closing = False
        self.aborted = False
        self.connection: Any = None

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 5)

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if not self.takes:
            self.unsent += len(data)
            if self.unsent > self.high:
                self.connection.pause_writing()

    def take(self, size: int) -> None:
        self.unsent -= size
        if not self.unsent:
            self.connection.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def write_eof(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    @property
    def said(self) -> bytes:
        return b"".join(self.written)


class Bench:
    """A server without sockets over a store in a dict."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.clock = FakeClock()
        self.store = FakeKeyValues(self.clock, self.limits)
        self.operations = Operations()
        self.budget = ByteBudget("resp", self.limits.resp_held_bytes_max)
        self.server = RespServer(self.store, self.limits, self.operations, self.clock, budget=self.budget)

    def client(self, *, takes: bool = True) -> FakeTransport:
        transport = FakeTransport(takes=takes)
        transport.connection = self.server._accept()
        transport.connection.connection_made(transport)
        return transport

    def look(self) -> None:
        """Judge who is waited for, as the timer would."""
        self.server._shared.patience._look()


async def turns_until(done: Any, most: int = 10_000) -> int:
    for turn in range(most):
        if done():
            return turn
        await asyncio.sleep(0)
    raise AssertionError("it never came")


# ---- turns -----------------------------------------------------------------------------------------------------------


async def test_a_long_pipeline_is_answered_a_share_a_turn_and_others_have_theirs() -> None:
    bench = Bench()
    greedy, other = bench.client(), bench.client()
    greedy.connection.data_received(words(b"PING") * 5000)
    assert greedy.said.count(b"PONG") == STEPS_PER_SHARE
    assert not greedy.reading, "no more is read while commands wait for their turn"
    other.connection.data_received(words(b"PING"))
    assert other.said == b"+PONG\r\n"
    taken = await turns_until(lambda: greedy.said.count(b"PONG") == 5000)
    assert taken >= 5000 // STEPS_PER_SHARE - 1
    assert greedy.reading


async def test_all_connections_together_do_no_more_than_a_turn_s_steps_in_a_turn() -> None:
    bench = Bench()
    clients = [bench.client() for _ in range(50)]
    for client in clients:
        client.connection.data_received(words(b"PING") * STEPS_PER_SHARE)

    def answered() -> int:
        return sum(client.said.count(b"PONG") for client in clients)

    assert answered() <= STEPS_PER_TURN
    before = answered()
    while before < 50 * STEPS_PER_SHARE:
        await asyncio.sleep(0)
        assert answered() - before <= STEPS_PER_TURN
        before = answered()


async def test_walks_over_many_keys_take_a_slice_a_share_and_answers_keep_their_order() -> None:
    bench = Bench(replace(Limits(), resp_keys_max=10_000))
    for number in range(300):
        await bench.store.put(f"k{number:03}", b"v")
    walker, other = bench.client(), bench.client()
    walker.connection.data_received(words(b"KEYS", b"*") + words(b"ECHO", b"end"))
    assert b"end" not in walker.said
    other.connection.data_received(words(b"PING"))
    assert other.said == b"+PONG\r\n"
    await turns_until(lambda: walker.said.endswith(b"$3\r\nend\r\n"))
    assert walker.said.startswith(b"*300\r\n$4\r\nk000\r\n")


async def test_a_walk_ends_with_its_connection() -> None:
    bench = Bench()
    for number in range(2000):
        await bench.store.put(f"k{number}", b"v")
    walker = bench.client()
    walker.connection.data_received(words(b"KEYS", b"*"))
    walker.connection.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert walker.said == b""


async def test_very_many_keys_are_looked_up_and_deleted_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    names = [b"k%05d" % number for number in range(5 * KEYS_PER_SLICE)]
    for name in names[:1000]:
        await bench.store.put(name.decode(), b"v")
    looked, batches = [], []
    length_of, batch = bench.store.length_of, bench.store.batch
    monkeypatch.setattr(bench.store, "length_of", lambda key: looked.append(key) or length_of(key))
    monkeypatch.setattr(bench.store, "batch", lambda writes: batches.append(len(writes)) or batch(writes))
    client = bench.client()
    client.connection.data_received(words(b"EXISTS", *names))
    before = len(looked)
    while client.said != b":1000\r\n":
        await asyncio.sleep(0)
        assert len(looked) - before <= KEYS_PER_SLICE * (STEPS_PER_SHARE // 48 + 1)
        before = len(looked)
    client.connection.data_received(words(b"DEL", *names, names[0]))
    await turns_until(lambda: client.said.endswith(b"\r\n:1000\r\n"))
    assert max(batches) == DELETES_PER_SLICE
    assert bench.store.count() == 0


def test_turns_are_renewed_in_the_next_turn_of_the_loop_and_the_first_in_line_goes_first() -> None:
    async def run() -> list[str]:
        shared, went = Turns(10), []
        shared.take(10)
        assert shared.share() == 0
        for name in "ab":
            shared.wait(lambda name=name: (went.append(name), shared.take(10)))
        assert went == []
        await asyncio.sleep(0)
        assert went == ["a"]
        await asyncio.sleep(0)
        return went

    assert asyncio.run(run()) == ["a", "b"]


def test_a_command_of_very_many_arguments_is_read_some_at_a_time() -> None:
    reader = CommandReader(1 << 20, 65_536)
    reader.feed(words(b"DEL", *[b"k%d" % number for number in range(10 * READ_AT_ONCE)]))
    reads = 0
    while (found := reader.next()) is UNFINISHED:
        reads += 1
    assert found is not None
    assert (len(found), reads) == (10 * READ_AT_ONCE + 1, 10)
    assert (reader.next(), reader.held_bytes, reader.midway) == (None, 0, False)


# ---- patterns and options --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        (b"*", b"save", True), (b"max*", b"maxmemory", True), (b"max*y", b"maxmemory", True),
        (b"m?x*", b"maxclients", True),
        (b"", b"save", False), (b"save", b"save", True), (b"save?", b"save", False), (b"[a-s]ave", b"save", True),
        (b"[^s]ave", b"save", False), (b"\\save", b"save", True), (b"\\*", b"save", False), (b"[sa", b"s", True),
        (b"*a*a*a*a*a*a", b"aaaaaaaaaaaaaaaab", False),
    ],
)  # fmt: skip
def test_patterns_are_redis_own(pattern: bytes, name: bytes, fits: bool) -> None:
    assert matches(pattern, name) is fits


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_patterns_of_stars_are_what_a_regular_expression_says(pattern: str, name: str) -> None:
    expected = re.fullmatch(pattern.replace("*", ".*").replace("?", "."), name) is not None
    assert matches(pattern.encode(), name.encode()) is expected


async def test_many_or_long_patterns_and_endless_options_are_refused() -> None:
    bench = Bench()
    client = bench.client()
    most = bench.limits.resp_config_patterns_max
    client.connection.data_received(words(b"CONFIG", b"GET", *[b"x"] * most))
    await turns_until(lambda: client.said == b"*0\r\n")
    for refused in (
        words(b"CONFIG", b"GET", *[b"x"] * (most + 1)),
        words(b"CONFIG", b"GET", b"x" * 33),
        words(b"HELLO", b"3", *[b"SETNAME", b"a"] * 20),
        words(b"SET", b"k", b"v", *[b"GET"] * 40),
        words(b"COMMAND", b"INFO", *[b"GET"] * 600),
        words(b"MSETNX", *[b"k"] * 4000),
    ):
        client.written.clear()
        client.connection.data_received(refused)
        await turns_until(lambda: client.said.endswith(b"\r\n"))
        assert client.said.startswith(b"-ERR"), refused[:40]


# ---- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [b"", b"$0\r\n\r\n"])
def test_arrays_in_arrays_are_refused_at_their_header_and_reserve_nothing(between: bytes) -> None:
    reader = CommandReader(1 << 20, 65_536)
    tracemalloc.start()
    try:
        reader.feed((b"*65536\r\n" + between) * 10_000)
        with pytest.raises(BadProtocol, match="expected '\\$'"):
            reader.next()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


async def test_a_client_that_takes_nothing_holds_one_reply_beyond_what_is_free() -> None:
    bench = Bench()
    await bench.store.put("large", bytes(1 << 20))
    client = bench.client(takes=False)
    client.connection.data_received(words(b"GET", b"large") * 30)
    for _ in range(50):
        await asyncio.sleep(0)
    assert client.unsent < FREE + (1 << 20) + 100
    assert bench.budget.used <= client.unsent + (1 << 16)
    client.takes = True
    client.take(client.unsent)
    await turns_until(lambda: sum(map(len, client.written)) == 30 * len(b"$1048576\r\n" + bytes((1 << 20) + 2)))
    await turns_until(lambda: bench.budget.used == 0)


async def test_many_clients_that_take_nothing_hold_no_more_than_the_budget_and_small_replies_go_on() -> None:
    bench = Bench(replace(Limits(), resp_held_bytes_max=8 << 20))
    await bench.store.put("large", bytes(1 << 20))
    clients = [bench.client(takes=False) for _ in range(40)]
    for client in clients:
        client.connection.data_received(words(b"MGET", *[b"large"] * 3) * 10)
    for _ in range(50):
        await asyncio.sleep(0)
    assert bench.budget.used <= 8 << 20
    assert sum(client.unsent for client in clients) <= (8 << 20) + 40 * FREE
    assert sum(b"memory_budget" in client.said for client in clients) >= 30
    honest = bench.client()
    honest.connection.data_received(words(b"SET", b"k", b"v") + words(b"GET", b"k"))
    await turns_until(lambda: honest.said == b"+OK\r\n$1\r\nv\r\n")


@pytest.mark.parametrize("size", [15_000, 60_000])
async def test_clients_that_take_nothing_of_middling_replies_hold_no_more_than_the_budget_either(size: int) -> None:
    bench = Bench(replace(Limits(), resp_held_bytes_max=1 << 20))
    await bench.store.put("middling", bytes(size))
    clients = [bench.client(takes=False) for _ in range(40)]
    for client in clients:
        client.connection.data_received(words(b"GET", b"middling") * 60)
    for _ in range(100):
        await asyncio.sleep(0)
    # Who holds what does not fit is cut, since it reads nothing, not even why; what is large is refused before.
    held = [client.unsent for client in clients if not client.aborted]
    assert 1 << 19 < sum(held) <= (1 << 20) + 40 * FREE


async def test_commands_that_wait_for_the_disk_are_bounded_in_bytes() -> None:
    bench = Bench(replace(Limits(), resp_pending_bytes_max=10_000))
    bench.store.hold = True
    client = bench.client()
    client.connection.data_received(words(b"SET", b"k", bytes(1000)) * 100)
    for _ in range(20):
        await asyncio.sleep(0)
    assert bench.store.most_waiting <= 10
    assert not client.reading
    bench.store.hold = False
    bench.store.commit()
    await turns_until(lambda: client.said == b"+OK\r\n" * 100)


async def test_input_that_does_not_fit_ends_its_connection_with_a_reason() -> None:
    bench = Bench(replace(Limits(), resp_held_bytes_max=1 << 20))
    first, second = bench.client(), bench.client()
    half = b"*2\r\n$3\r\nGET\r\n$1000000\r\n" + bytes(700_000)
    first.connection.data_received(half)
    assert not first.closing
    second.connection.data_received(half)
    assert second.said.startswith(b"-ERR memory_budget")
    assert second.closing
    first.connection.connection_lost(None)
    assert bench.budget.used == 0


# ---- time ------------------------------------------------------------------------------------------------------------


async def test_half_a_command_is_waited_for_for_as_long_as_the_limits_say(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(replace(Limits(), resp_stuck_ms_max=1000))
    client = bench.client()
    client.connection.data_received(b"*2\r\n$3\r\nGET\r\n$9\r\n")
    bench.clock.seconds += 0.9
    client.connection.data_received(b"k")
    bench.look()
    assert not client.aborted, "a byte now and then does not begin the time anew"
    bench.clock.seconds += 0.1
    bench.look()
    assert client.aborted
    assert "half a command" in caplog.text
    assert ("resp", "other", "cut") in bench.operations.seen


async def test_a_client_that_goes_on_is_never_cut() -> None:
    bench = Bench(replace(Limits(), resp_stuck_ms_max=1000))
    client = bench.client()
    command = words(b"PING", b"x" * 100)
    for _ in range(50):
        client.connection.data_received(command[50:] + command[:50] if client.written else command + command[:50])
        bench.clock.seconds += 0.9
        bench.look()
    assert not client.aborted
    client.connection.data_received(command[50:])
    bench.clock.seconds += 3600
    bench.look()
    assert not client.aborted, "an idle client holds nothing"


async def test_replies_that_are_not_taken_are_waited_for_as_long_as_some_go() -> None:
    bench = Bench(replace(Limits(), resp_stuck_ms_max=1000))
    await bench.store.put("large", bytes(1 << 20))
    client = bench.client(takes=False)
    client.connection.data_received(words(b"GET", b"large"))
    bench.look()
    for _ in range(5):
        bench.clock.seconds += 0.9
        client.unsent -= 1000
        bench.look()
    assert not client.aborted
    bench.clock.seconds += 1.0
    bench.look()
    assert client.aborted


async def test_a_plane_that_is_pressed_has_less_patience() -> None:
    bench = Bench(replace(Limits(), resp_held_bytes_max=1 << 20, resp_stuck_ms_max=9000, resp_pressed_ms_max=1000))
    client = bench.client()
    client.connection.data_received(b"*2\r\n$3\r\nGET\r\n$1048000\r\n" + bytes(1_040_000))
    bench.clock.seconds += 1.0
    bench.look()
    assert client.aborted


async def test_where_all_are_taken_the_longest_idle_gives_way_and_nobody_else() -> None:
    bench = Bench(replace(Limits(), resp_connections_max=2, resp_idle_ms_min=10_000))
    idle, busy = bench.client(), bench.client()
    bench.clock.seconds += 9.0
    busy.connection.data_received(words(b"PING"))
    assert not isinstance(bench.server._accept(), type(busy.connection))
    assert not idle.aborted
    bench.clock.seconds += 1.0
    assert isinstance(bench.server._accept(), type(busy.connection))
    assert (idle.aborted, busy.aborted) == (True, False)


def test_a_step_is_small_beside_a_turn() -> None:
    assert turns.STEPS_PER_TURN * 10 <= 20_000, "ten microseconds a step come to a fourth of the longest turn"
