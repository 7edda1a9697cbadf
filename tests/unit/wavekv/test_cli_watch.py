"""`wavekv watch`, `explain` and `--ephemeral` and `--ttl` against the real HTTP plane over a fake store."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.fakes.planes import Plane, fast_http, plane
from wavekv.__main__ import run
from wavekv.cli.client import Client
from wavekv.cli.errors import MemberUnreachable, RefusedByMember
from wavekv.cli.events import Event, EventReader
from wavekv.cli.target import Target
from wavekv.cli.watch import Follower, show_event
from wavekv.config import Limits
from wavekv.errors import WaveKVError

STREAM = (
    b'retry: 1000\n\n: \n\nevent: put\nid: t.1\ndata: {"key":"\xc3\xbc"}\n\n'
    b"event: synced\r\ndata:{}\r\n\r\nevent: x\n\n"
)
EVENTS = [Event("put", "t.1", {"key": "ü"}), Event("synced", None, {})]


@pytest.fixture
async def http() -> AsyncIterator[Plane]:
    async with plane(fast_http, replace(Limits(), watch_waiting_max=20)) as serving:
        yield serving


async def ran(http: Plane, *arguments: str) -> int:
    return await asyncio.to_thread(run, [*arguments, "--url", http.url])


def test_a_stream_cut_anywhere_gives_the_same_events() -> None:
    for cut in range(len(STREAM)):
        reader = EventReader()
        assert [*reader.feed(STREAM[:cut]), *reader.feed(STREAM[cut:])] == EVENTS, cut


@pytest.mark.parametrize("data", [b"data: x\n\n", b"data: []\n\n", b"data: " + b"x" * (17 << 20)])
def test_what_is_no_stream_of_a_member_is_told_as_such(data: bytes) -> None:
    with pytest.raises(MemberUnreachable):
        list(EventReader().feed(data))


class Followed:
    """Runs a follower until it was shown `count` events; the pauses it asked for are counted, not waited."""

    def __init__(self, http: Plane, since: str | None = None) -> None:
        self.shown: list[Event] = []
        self.resumed: list[bool] = []
        self.pauses: list[float] = []
        self._http = http
        self._since = since

    async def __aenter__(self) -> "Followed":
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        async with Client(Target("127.0.0.1", self._http.port)) as client:
            await Follower(client, {"prefix": ""}, self._since, self._show, self._pause).run()

    def _show(self, event: Event, resumed: bool) -> None:
        self.shown.append(event)
        self.resumed.append(resumed)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def until(self, count: int) -> list[Event]:
        async with asyncio.timeout(10):
            while len(self.shown) < count and not self._task.done():
                await asyncio.sleep(0)
        return self.shown

    async def failed(self) -> WaveKVError:
        async with asyncio.timeout(10):
            await asyncio.wait([self._task])
        error = self._task.exception()
        assert isinstance(error, WaveKVError)
        return error


async def test_a_watch_resumes_behind_its_last_token_after_an_interruption(
    http: Plane, capsys: pytest.CaptureFixture[str]
) -> None:
    await http.store.put("a", b"1")
    async with Followed(http) as followed:
        assert [event.kind for event in await followed.until(2)] == ["put", "synced"]
        http.store.stop()
        while http.store.watches:
            await asyncio.sleep(0)
        await http.store.put("b", b"2")
        assert (await followed.until(3))[2:] == [Event("put", "fake.2", {"key": "b", "value": "2", "etag": "2.7.2"})]
        assert followed.pauses == [0.5]
        assert followed.resumed[:3] == [False, False, True]
    assert "watching again" in capsys.readouterr().err


async def test_a_watch_whose_token_is_too_old_begins_anew_and_says_so(
    http: Plane, capsys: pytest.CaptureFixture[str]
) -> None:
    await http.store.put("a", b"1")
    async with Followed(http, since="other.7") as followed:
        assert [event.kind for event in await followed.until(2)] == ["put", "synced"]
    assert "beginning anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"key": "k\n", "value": "a\tb"}, "put\tk\\n\ta\\tb\n"),
        ({"key": "k", "value_base64": "/2H/"}, "put\tk\t\\xffa\\xff\n"),
        ({"key": "k", "value": ""}, "put\tk\t\n"),
    ],
)
def test_values_are_shown_as_a_listing_shows_them(
    data: dict[str, str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_event(False, Event("put", None, data), False)
    assert capsys.readouterr().out == shown


def test_a_value_that_is_not_base64_is_no_members() -> None:
    with pytest.raises(MemberUnreachable, match="not base64"):
        show_event(False, Event("put", None, {"key": "k", "value_base64": "*"}), False)


@pytest.mark.parametrize(("resumed", "said"), [(False, "this is what is held; changes"), (True, "caught up; changes")])
def test_a_resumed_watch_does_not_claim_to_have_told_what_is_held(
    resumed: bool, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_event(False, Event("synced", "t.1", {}), resumed)
    assert capsys.readouterr() == ("", f"wavekv: {said} follow\n")


async def test_the_first_connection_may_fail_the_command(http: Plane) -> None:
    http.store.limits = replace(Limits(), watchers_max=0)
    async with Followed(http) as followed:
        error = await followed.failed()
    assert isinstance(error, RefusedByMember)
    assert error.answer_code == "too_many_watchers"
    await http.server.stop()
    async with Followed(http) as followed:
        assert isinstance(await followed.failed(), MemberUnreachable)


async def test_one_argument_excludes_the_other(http: Plane) -> None:
    assert await ran(http, "watch", "--key", "a", "--prefix", "b") == 2


async def test_a_value_is_put_with_a_time_to_live_and_shown_with_it(
    http: Plane, capsys: pytest.CaptureFixture[str]
) -> None:
    http.clock.seconds = 10
    assert await ran(http, "put", "k", "v", "--ttl", "1.5") == 0
    assert http.store.entries["k"].expires_at == 11_500
    assert await ran(http, "put", "k", "w", "--ttl", "keep") == 0
    capsys.readouterr()
    assert await ran(http, "get", "k") == 0
    assert capsys.readouterr().out == "w"
    for command in (["get", "k"], ["list"]):
        assert await ran(http, *command, "--json") == 0
        assert json.loads(capsys.readouterr().out)["expires_at"] == 11_500
    assert await ran(http, "put", "k", "v", "--ttl", "0") == 1
    assert "invalid_parameter" in capsys.readouterr().err


async def test_a_put_that_wants_no_value_there_says_which_is(http: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    assert await ran(http, "put", "a\n", "v", "--if-absent") == 0
    etag = http.store.entries["a\n"].etag
    capsys.readouterr()
    assert await ran(http, "put", "a\n", "w", "--if-absent") == 1
    said = f"wavekv: a\\n holds a value already (etag {etag}) [precondition_failed]\n"
    assert capsys.readouterr() == ("", said)
    assert await ran(http, "put", "a\n", "w", "--if-match", "1.1.1") == 1
    assert "If-Match does not hold" in capsys.readouterr().err


async def test_an_absent_key_is_told_in_the_same_words_by_get_and_delete(
    http: Plane, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("get", "delete"):
        assert await ran(http, command, "k") == 1
        assert capsys.readouterr() == ("", "wavekv: there is no key 'k' [not_found]\n")


async def test_the_ephemeral_store_is_named_by_a_flag(http: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    assert await ran(http, "put", "k", "v", "--ephemeral") == 0
    assert not http.store.entries
    capsys.readouterr()
    for command, shown in ((["get", "k"], "v"), (["list"], "k\tv\n"), (["delete", "k"], "deleted k\n")):
        assert await ran(http, *command) == (0 if command == ["list"] else 1)
        assert capsys.readouterr().out == ""
        assert await ran(http, *command, "--ephemeral") == 0
        assert capsys.readouterr().out == shown


async def test_an_explanation_is_shown_as_the_member_gives_it(http: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    await http.store.put("a/ü", b"1")
    assert await ran(http, "explain", "a/ü", "--json") == 0
    assert json.loads(capsys.readouterr().out) == http.store.explain("a/ü")
    assert await ran(http, "explain", "a/ü") == 0
    assert capsys.readouterr().out.startswith("a/ü: ")
    assert await ran(http, "explain", "a/ü", "--ephemeral", "--json") == 0
    assert json.loads(capsys.readouterr().out)["winner"] is None
