"""The Redis plane: what each command answers, in which order, and how much one client may cost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import redis.asyncio as redis
from redis.exceptions import ResponseError

from tests.fakes.planes import Plane, plane, resp_plane
from wavekv.config import Limits
from wavekv.errors import DiskFull, Starting

LIMITS = replace(Limits(), resp_connections_max=3, resp_pending_max=8)


@pytest.fixture
async def resp() -> AsyncIterator[Plane]:
    async with plane(resp_plane, LIMITS) as serving:
        yield serving


@pytest.fixture(params=[2, 3])
async def client(resp: Plane, request: pytest.FixtureRequest) -> AsyncIterator[redis.Redis]:
    async with redis.Redis(port=resp.port, protocol=request.param) as connected:
        yield connected


class Raw:
    """A connection that sends exactly what it is given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *words: bytes) -> None:
        self.writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    async def line(self) -> bytes:
        return (await asyncio.wait_for(self.reader.readline(), 10)).rstrip(b"\r\n")

    async def ask(self, *words: bytes) -> bytes:
        self.send(*words)
        return await self.line()

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 10)


@pytest.fixture
async def raw(resp: Plane) -> AsyncIterator[Raw]:
    connection = Raw(*await asyncio.open_connection("127.0.0.1", resp.port))
    yield connection
    connection.writer.close()


async def test_a_real_client_stores_reads_and_deletes(resp: Plane, client: redis.Redis) -> None:
    value = bytes(range(256))
    assert await client.ping() is True
    assert await client.get("schlüssel") is None
    assert await client.set("schlüssel", value) is True
    assert await client.get("schlüssel") == value
    assert await client.set("leer", b"") is True
    assert await client.get("leer") == b""
    assert await client.exists("schlüssel", "schlüssel", "leer", "none") == 3
    assert await client.delete("schlüssel", "none", "leer") == 2
    assert await client.get("schlüssel") is None
    assert ("resp", "put", "ok") in resp.operations.seen


async def test_a_pipeline_of_writes_shares_commits_and_answers_in_order(resp: Plane, client: redis.Redis) -> None:
    async with client.pipeline(transaction=False) as pipeline:
        for number in range(6):
            pipeline.set(f"k{number}", str(number))
        for number in range(6):
            pipeline.get(f"k{number}")
        answers = await pipeline.execute()
    assert answers == [True] * 6 + [str(number).encode() for number in range(6)]
    assert resp.store.commits <= 2


async def test_a_pipeline_longer_than_what_may_wait_is_answered_whole(client: redis.Redis) -> None:
    async with client.pipeline(transaction=False) as pipeline:
        for number in range(500):
            pipeline.set("k", str(number))
            pipeline.get("k")
        answers = await pipeline.execute()
    assert answers[1::2] == [str(number).encode() for number in range(500)]


async def test_a_read_behind_a_write_waits_for_it_and_other_connections_do_not(resp: Plane, raw: Raw) -> None:
    resp.store.hold = True
    raw.send(b"SET", b"k", b"v")
    raw.send(b"GET", b"k")
    async with redis.Redis(port=resp.port) as other:
        assert await other.get("k") is None
    resp.store.commit()
    assert await raw.line() == b"+OK"
    assert [await raw.line(), await raw.line()] == [b"$1", b"v"]


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ([b"PING", b"hello"], b"$5"),
        ([b"ping"], b"+PONG"),
        ([b"GET"], b"-ERR wrong number of arguments for 'get' command"),
        ([b"SET", b"k"], b"-ERR wrong number of arguments for 'set' command"),
        ([b"DEL"], b"-ERR wrong number of arguments for 'del' command"),
        ([b"LOLWUT"], b"-ERR unknown command 'LOLWUT', with args beginning with: "),
        ([b"HGET", b"n"], b"-ERR unknown command 'HGET', with args beginning with: 'n' "),
        ([b"foo", b"a", b"b"], b"-ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
        (
            [b"AUTH", b"p"],
            b"-ERR AUTH <password> called without any password configured for the default user. "
            b"Are you sure your configuration is correct?",
        ),
        ([b"AUTH", b"u", b"p"], b"-WRONGPASS invalid username-password pair or user is disabled."),
        ([b"AUTH", b"default", b"p"], b"+OK"),
        ([b"HELLO", b"4"], b"-NOPROTO unsupported protocol version"),
        ([b"HELLO", b"x"], b"-ERR Protocol version is not an integer or out of range"),
        ([b"HELLO", b"3", b"AUTH", b"u", b"p"], b"-WRONGPASS invalid username-password pair or user is disabled."),
    ],
)
async def test_answers_are_in_redis_own_words(raw: Raw, words: list[bytes], reply: bytes) -> None:
    assert await raw.ask(*words) == reply


@pytest.mark.parametrize("nothing", [b"$-1"])
async def test_set_can_ask_for_an_absent_or_a_present_key(resp: Plane, raw: Raw, nothing: bytes) -> None:
    assert await raw.ask(b"SET", b"k", b"1", b"XX") == nothing
    assert await raw.ask(b"SET", b"k", b"1", b"nx") == b"+OK"
    assert await raw.ask(b"SET", b"k", b"2", b"NX") == nothing
    assert resp.store.entries["k"].value == b"1"
    assert await raw.ask(b"SET", b"k", b"3", b"XX") == b"+OK"
    assert await raw.ask(b"SET", b"k", b"4", b"NX", b"XX") == b"-ERR syntax error"
    assert await raw.ask(b"SET", b"k", b"4", b"NX", b"5") == b"-ERR syntax error"
    assert resp.store.entries["k"].value == b"3"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([b"GET", b""], b"invalid_key"),
        ([b"SET", b"k" * 1025, b"v"], b"invalid_key"),
        ([b"GET", b"\xff"], b"invalid_key"),
        ([b"SET", b"k", b"v" * (2**20 + 1)], b"value_too_large"),
        ([b"DEL", b"k", b"\xff"], b"invalid_key"),
    ],
)
async def test_bad_input_is_refused_by_our_codes_and_the_connection_goes_on(
    resp: Plane, raw: Raw, words: list[bytes], code: bytes
) -> None:
    assert (await raw.ask(*words)).startswith(b"-ERR " + code + b": ")
    assert await raw.ask(b"PING") == b"+PONG"
    assert resp.store.entries == {}


async def test_a_key_and_a_value_of_exactly_the_bounds_are_stored(client: redis.Redis) -> None:
    assert await client.set("k" * 1024, b"v" * 2**20) is True
    assert await client.get("k" * 1024) == b"v" * 2**20


@pytest.mark.parametrize("error", [Starting("not yet"), DiskFull("no room")])
async def test_a_refusal_of_the_member_is_told_by_its_code(
    resp: Plane, client: redis.Redis, error: Starting | DiskFull
) -> None:
    resp.store.error = error
    with pytest.raises(ResponseError, match=error.code):
        await client.set("k", "v")
    resp.store.error = None
    assert await client.set("k", "v") is True


@pytest.mark.parametrize("words", [[b"SET", b"k", b"v"], [b"GET", b"k"], [b"DEL", b"k"]])
async def test_an_unforeseen_error_is_answered_without_its_text_and_logged(
    resp: Plane, raw: Raw, words: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    resp.store.error = RuntimeError("secret")
    reply = await raw.ask(*words)
    assert reply.startswith(b"-ERR internal")
    assert b"secret" not in reply
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.parametrize(
    "garbage",
    [
        b"*3\r\n$3\r\nSET\r\n+k\r\n:1\r\n",
        b"*99999999\r\n",
        b"*1\r\n$99999999999\r\n",
        b"$5\r\nhello\r\n",
        b"*1\r\n$-5\r\n",
        b"\x00\xff\xfe\r\n",
    ],
)
async def test_garbage_ends_the_connection_with_a_protocol_error(resp: Plane, raw: Raw, garbage: bytes) -> None:
    raw.send(b"PING")
    raw.writer.write(garbage)
    raw.writer.write_eof()
    answer = await raw.rest()
    assert answer.startswith(b"+PONG\r\n")
    assert resp.store.entries == {}
    async with redis.Redis(port=resp.port) as other:
        assert await other.ping() is True


async def test_a_command_that_never_ends_is_told_so_however_much_was_sent_before_anything_was_read(raw: Raw) -> None:
    raw.writer.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n")
    for _ in range(50):
        raw.writer.write(bytes(1 << 20))
        await raw.writer.drain()
    assert (await raw.rest()).startswith(b"-ERR Protocol error: command too long")


async def test_what_is_thrown_away_behind_an_error_is_bounded() -> None:
    async with plane(resp_plane, replace(LIMITS, resp_linger_bytes_max=1 << 20)) as serving:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", serving.port))
        raw.writer.write(b"$$$\r\n")

        async def flood() -> None:
            for _ in range(50):
                raw.writer.write(bytes(1 << 20))
                await raw.writer.drain()

        with pytest.raises(ConnectionError):
            await flood()
        raw.writer.close()


async def test_who_stays_behind_an_error_is_closed_in_time() -> None:
    async with plane(resp_plane, replace(LIMITS, resp_linger_ms_max=50)) as serving:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", serving.port))
        raw.writer.write(b"$$$\r\n")
        assert (await raw.rest()).startswith(b"-ERR Protocol error")
        server = serving.server
        await asyncio.wait_for(asyncio.gather(*(one.lost for one in server._connections)), 10)
        assert not server._connections
        raw.writer.close()


VALUE = b"$32768\r\n" + bytes(32768) + b"\r\n"


@pytest.mark.parametrize(
    ("command", "cut"),
    [
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n" + VALUE, False),
        (b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n" + VALUE + b"$3\r\nGET\r\n", True),
        (b"*2\r\n$4\r\nECHO\r\n" + VALUE, True),
        (b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" * 500, True),
    ],
)
async def test_a_client_that_writes_all_before_it_reads_goes_on_or_is_cut_in_time(
    caplog: pytest.LogCaptureFixture, command: bytes, cut: bool
) -> None:
    async with plane(resp_plane, replace(LIMITS, resp_stuck_ms_max=100)) as serving:
        await serving.store.put("k", bytes(32768))
        raw = Raw(*await asyncio.open_connection("127.0.0.1", serving.port, limit=1))
        raw.writer.transport.pause_reading()
        connections = serving.server._connections

        async def flood() -> None:
            for _ in range(1500):
                raw.writer.write(command)
                await raw.writer.drain()

        flooding = asyncio.create_task(flood())
        while not flooding.done() and connections:
            serving.clock.seconds += 0.001
            await asyncio.sleep(0)
        if cut:
            await asyncio.wait_for(asyncio.gather(*(one.lost for one in connections)), 10)
            assert "it takes no replies" in caplog.text
        else:
            await flooding
        await asyncio.gather(flooding, return_exceptions=True)
        raw.writer.transport.abort()


async def test_a_client_above_the_bound_is_told_so(resp: Plane) -> None:
    held = [await asyncio.open_connection("127.0.0.1", resp.port) for _ in range(LIMITS.resp_connections_max)]
    extra = Raw(*await asyncio.open_connection("127.0.0.1", resp.port))
    assert await extra.rest() == b"-ERR max number of clients reached\r\n"
    for _, writer in held:
        writer.close()
    extra.writer.close()


async def test_quit_answers_and_closes(raw: Raw) -> None:
    raw.send(b"QUIT")
    raw.send(b"SET", b"k", b"v")
    assert await raw.rest() == b"+OK\r\n"


async def test_a_stop_answers_what_was_received(resp: Plane, raw: Raw) -> None:
    resp.store.hold = True
    raw.send(b"SET", b"k", b"v")
    async with redis.Redis(port=resp.port) as other:
        await other.ping()
    stopping = asyncio.get_running_loop().create_task(resp.server.stop())
    await asyncio.sleep(0)
    resp.store.commit()
    assert await raw.rest() == b"+OK\r\n"
    await stopping


async def test_a_client_that_sends_no_more_is_still_answered(resp: Plane, raw: Raw) -> None:
    resp.store.hold = True
    raw.send(b"SET", b"k", b"v")
    raw.send(b"GET", b"k")
    raw.writer.write_eof()
    async with redis.Redis(port=resp.port) as other:
        await other.ping()
    resp.store.commit()
    assert await raw.rest() == b"+OK\r\n$1\r\nv\r\n"


async def test_absence_and_the_greeting_are_told_in_the_version_agreed(raw: Raw) -> None:
    assert await raw.ask(b"GET", b"none") == b"$-1"
    assert await raw.ask(b"HELLO", b"3", b"SETNAME", b"me") == b"%7"
    greeting = [await raw.line() for _ in range(25)]
    assert greeting[1:4] == [b"server", b"$5", b"redis"]
    assert b":3" in greeting
    assert await raw.ask(b"GET", b"none") == b"_"
    assert await raw.ask(b"HELLO", b"2") == b"*14"


async def test_a_pipeline_longer_than_the_replies_that_may_wait_is_answered_whole(resp: Plane, raw: Raw) -> None:
    pings = LIMITS.resp_pending_max * 5 + 3
    raw.writer.write(b"*1\r\n$4\r\nPING\r\n" * pings)
    for _ in range(pings):
        assert await raw.line() == b"+PONG"


async def test_a_client_that_does_not_read_is_not_answered_further(resp: Plane, raw: Raw) -> None:
    gets = 200
    await resp.store.put("k", b"v" * (1 << 18))
    for _ in range(gets):
        raw.send(b"GET", b"k")
    async with redis.Redis(port=resp.port) as other:
        for _ in range(20):
            await other.ping()
    answered = resp.operations.seen.count(("resp", "get", "ok"))
    assert answered < gets / 2
    for _ in range(gets):
        assert await raw.line() == b"$262144"
        await raw.reader.readexactly((1 << 18) + 2)
