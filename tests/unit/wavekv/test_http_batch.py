"""Batches and multi-get over HTTP, in both encodings: what they take, refuse and answer, at their exact bounds."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgpack
import pytest

from tests.fakes.planes import Plane, fast_http, plane
from wavekv.config import Limits

LIMITS = Limits(
    batch_operations_max=3,
    batch_bytes_max=1000,
    value_bytes_max=600,
    key_bytes_max=20,
    multi_get_keys_max=3,
    list_bytes_max=10,
)
JSON, MSGPACK = "application/json", "application/msgpack"


@pytest.fixture(params=["/v1", "/v1/ephemeral"])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Plane, str]]:
    async with plane(fast_http, LIMITS) as serving:
        serving.clock.seconds = 1000
        yield serving, request.param


class Asker:
    """Asks the routes of one store in one encoding."""

    def __init__(self, client: aiohttp.ClientSession, prefix: str, store: Any, media_type: str) -> None:
        self.client, self.prefix, self.store, self.media_type = client, prefix, store, media_type

    async def send(self, path: str, body: bytes, media_type: str | None = None) -> tuple[int, Any]:
        headers = {"Content-Type": media_type or self.media_type, "Accept": self.media_type}
        async with self.client.post(f"{self.prefix}{path}", data=body, headers=headers) as answer:
            raw = await answer.read()
            if answer.content_type == MSGPACK:
                return answer.status, msgpack.unpackb(raw)
            return answer.status, json.loads(raw)

    async def ask(self, path: str, content: Any) -> tuple[int, Any]:
        return await self.send(
            path, json.dumps(content).encode() if self.media_type == JSON else msgpack.packb(content)
        )

    async def batch(self, *operations: Any) -> tuple[int, Any]:
        return await self.ask("/batch", {"operations": operations})


@pytest.fixture(params=[JSON, MSGPACK])
async def asker(http: tuple[Plane, str], request: pytest.FixtureRequest) -> AsyncIterator[Asker]:
    serving, prefix = http
    store = serving.store if prefix == "/v1" else serving.ephemeral
    async with aiohttp.ClientSession(serving.url) as client:
        yield Asker(client, prefix, store, request.param)


def put(key: str = "a", value: str = "v", **more: Any) -> dict[str, Any]:
    return {"op": "put", "key": key, "value": value, **more}


async def test_the_empty_key_of_an_original_node_is_listed_and_can_be_deleted_but_never_written(asker: Asker) -> None:
    await asker.store.put("", b"from a node that allows it")
    status, answer = await asker.batch(put(""))
    assert (status, answer["code"]) == (400, "invalid_key")
    async with asker.client.get(f"{asker.prefix}/kv") as listing:
        assert [item["key"] for item in (await listing.json())["entries"]] == [""]
    status, answer = await asker.batch({"op": "delete", "key": ""})
    assert (status, answer["results"][0]["deleted"]) == (200, True)
    assert asker.store.get("") is None


async def test_a_batch_answers_in_the_order_asked_and_shares_a_commit(asker: Asker) -> None:
    await asker.store.put("b", b"old")
    commits = asker.store.commits
    status, answer = await asker.batch(put("a", ttl=1.5), {"op": "delete", "key": "b"}, {"op": "delete", "key": "c"})
    assert (status, answer) == (
        200,
        {"results": [{"etag": "2.7.2", "created": True}, {"etag": "3.7.3", "deleted": True}, {"deleted": False}]},
    )
    assert asker.store.commits == commits + 1
    assert asker.store.entries["a"].expires_at == 1_001_500
    assert asker.store.get("b") is None


async def test_bytes_that_are_no_text_travel_in_base64_and_in_msgpack_as_they_are(asker: Asker) -> None:
    raw = bytes(range(200, 230))
    value = {"op": "put", "key": "a", "value_base64": base64.b64encode(raw).decode()}
    assert (await asker.batch(value))[0] == 200
    assert asker.store.entries["a"].value == raw
    if asker.media_type == MSGPACK:
        assert (await asker.batch({"op": "put", "key": "b", "value": raw}))[0] == 200
        assert asker.store.entries["b"].value == raw


async def test_one_condition_that_fails_leaves_nothing_and_names_its_operation(asker: Asker) -> None:
    await asker.store.put("b", b"old")
    status, problem = await asker.batch(put("a"), put("b", if_none_match="*"))
    assert (status, problem["code"], problem["operation"]) == (412, "precondition_failed", 1)
    assert asker.store.get("a") is None
    for condition in ({"if_match": "1.7.1"}, {"if_match": ["0.0.0", "2.7.2"]}, {"if_match": "*"}):
        assert (await asker.batch(put("b", **condition)))[0] == 200
    status, problem = await asker.batch({"op": "delete", "key": "b", "if_match": "1.7.1"})
    assert (status, problem["operation"]) == (412, 0)


async def test_the_ends_of_the_bounds_are_taken_and_one_more_is_refused(asker: Asker) -> None:
    assert (await asker.batch(*[put(str(number)) for number in range(3)]))[0] == 200
    status, problem = await asker.batch(*[put(str(number), "new") for number in range(4)])
    assert (status, problem["code"]) == (413, "batch_too_large")
    assert (await asker.batch(put("a", "v" * 600), put("b", "v" * 398)))[0] == 200
    status, problem = await asker.batch(put("a", "w" * 600), put("b", "w" * 399))
    assert (status, problem["code"]) == (413, "batch_too_large")
    status, problem = await asker.batch(put("a", "w" * 601))
    assert (status, problem["code"], "operations[0]" in problem["detail"]) == (413, "value_too_large", True)
    assert {entry.value for entry in asker.store.entries.values()} == {b"v", b"v" * 600, b"v" * 398}


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({}, "invalid_body"),
        ("put", "invalid_body"),
        ({"op": "get", "key": "a"}, "invalid_body"),
        ({"op": ["put"], "key": "a"}, "invalid_body"),
        ({"op": "put", "key": "a"}, "invalid_body"),
        ({"op": "put", "key": "a", "value": 5}, "invalid_body"),
        ({"op": "put", "key": "a", "value": None}, "invalid_body"),
        ({"op": "put", "key": "a", "value": "v", "value_base64": "dg=="}, "invalid_body"),
        ({"op": "put", "key": "a", "value_base64": "d"}, "invalid_body"),
        ({"op": "put", "key": "a", "value_base64": "ü"}, "invalid_body"),
        ({"op": "put", "value": "v"}, "invalid_body"),
        ({"op": "put", "key": 5, "value": "v"}, "invalid_body"),
        ({"op": "put", "key": "", "value": "v"}, "invalid_key"),
        ({"op": "put", "key": "k" * 21, "value": "v"}, "invalid_key"),
        (put(durability=2), "invalid_body"),
        ({"op": "delete", "key": "a", "value": "v"}, "invalid_body"),
        ({"op": "delete", "key": "a", "ttl": 5}, "invalid_body"),
        (put(ttl=0), "invalid_parameter"),
        (put(ttl=-1), "invalid_parameter"),
        (put(ttl=0.0001), "invalid_parameter"),
        (put(ttl="5"), "invalid_parameter"),
        (put(ttl=True), "invalid_parameter"),
        (put(ttl=None), "invalid_parameter"),
        (put(ttl=1e300), "invalid_parameter"),
        (put(ttl=[5]), "invalid_parameter"),
        (put(if_match='"1.7.1"'), "invalid_condition"),
        (put(if_match=[]), "invalid_condition"),
        (put(if_match=["*"]), "invalid_condition"),
        (put(if_match=["a"] * 101), "invalid_condition"),
        (put(if_none_match=5), "invalid_condition"),
        (put(if_none_match=[5]), "invalid_condition"),
    ],
)
async def test_an_operation_that_is_none_is_refused_by_its_place_and_nothing_is_stored(
    asker: Asker, operation: Any, code: str
) -> None:
    status, problem = await asker.batch(put("first"), operation)
    assert (status, problem["code"]) == (400, code), problem
    assert "operations[1]" in problem["detail"]
    assert not asker.store.entries


@pytest.mark.parametrize(
    "content", [[], {}, {"operations": []}, {"operations": {}}, {"operations": [], "x": 1}, 5, None]
)
async def test_what_is_no_batch_is_refused(asker: Asker, content: Any) -> None:
    status, problem = await asker.ask("/batch", content)
    assert (status, problem["code"]) == (400, "invalid_body")


@pytest.mark.parametrize("ttl", [5, 0.001, "keep"])
async def test_a_time_to_live_may_be_a_number_or_keep(asker: Asker, ttl: Any) -> None:
    assert (await asker.batch(put(ttl=ttl)))[0] == 200
    expected = {5: 1_005_000, 0.001: 1_000_001, "keep": None}[ttl]
    assert asker.store.entries["a"].expires_at == expected


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 2**63])
async def test_a_number_that_is_no_time_is_refused(asker: Asker, number: float) -> None:
    status, problem = await asker.batch(put(ttl=number))
    assert (status, problem["code"] in {"invalid_parameter", "invalid_body"}) == (400, True)
    assert not asker.store.entries


DEEP = 600
HOSTILE = {
    JSON: [
        b"", b"{", b"\xff", b'{"operations": NaN}', b'{"operations": [], "operations": []}', b"[" * 1990, b"1" * 2000,
        b'{"operations": [{"op":"put","key":"\\ud800","value":"v"}]}',
        b'{"operations": [{"op":"put","key":"a","value":"\\ud800"}]}',
    ],
    MSGPACK: [
        b"", b"\x81", b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff" * DEEP, b"\x91" * 1990, b"\xc1", b"\xc7\x01\x01a",
        b"\x82\xa1a\x01\xa1a\x01", b"\x81\x01\x01", b"\x81\x91\x01\x01", b"\xc0\xc0", b"\xa1\xff",
    ],
}  # fmt: skip


async def test_hostile_documents_are_refused_without_a_traceback(
    asker: Asker, caplog: pytest.LogCaptureFixture
) -> None:
    for body in HOSTILE[asker.media_type]:
        status, problem = await asker.send("/batch", body)
        assert status == 400, body
        assert problem["code"] in {"invalid_body", "invalid_key"}, body
    assert "Traceback" not in caplog.text
    assert not asker.store.entries


async def test_a_body_above_twice_the_bytes_of_a_batch_is_refused_unread(asker: Asker) -> None:
    status, problem = await asker.send("/batch", b" " * 2001)
    assert (status, problem["code"]) == (413, "batch_too_large")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_only_json_and_msgpack_are_read(asker: Asker, media_type: str) -> None:
    for path in ("/batch", "/multi-get"):
        status, problem = await asker.send(path, b"{}", media_type)
        assert (status, problem["code"]) == (415, "unsupported_media_type")


async def test_the_kinds_of_operations_stay_few(asker: Asker, http: tuple[Plane, str]) -> None:
    await asker.batch(put())
    await asker.ask("/multi-get", {"keys": ["a"]})
    assert [kind for _, kind, _ in http[0].operations.seen] == ["batch", "multi_get"]


# ---- multi-get -----------------------------------------------------------------------------------------------------


async def test_several_keys_are_answered_with_those_that_are_missing(asker: Asker) -> None:
    await asker.store.put("a", b"1", expires_at=1_005_000)
    await asker.store.put("ü", b"2")
    status, answer = await asker.ask("/multi-get", {"keys": ["ü", "none", "a"]})
    values = [b"2", b"1"] if asker.media_type == MSGPACK else ["2", "1"]
    assert (status, answer) == (
        200,
        {
            "entries": [
                {"key": "ü", "etag": "2.7.2", "value": values[0]},
                {"key": "a", "etag": "1.7.1", "expires_at": 1_005_000, "value": values[1]},
            ],
            "missing": ["none"],
            "left_out": [],
        },
    )


async def test_keys_are_left_out_above_the_bytes_of_an_answer_and_one_value_always_comes(asker: Asker) -> None:
    for key, size in (("a", 11), ("b", 1), ("c", 9), ("d", 2)):
        await asker.store.put(key, b"v" * size)
    for keys, left_out in ((["a", "b"], ["b"]), (["b", "c"], []), (["d", "c", "b"], ["c"])):
        _, answer = await asker.ask("/multi-get", {"keys": keys})
        assert answer["left_out"] == left_out
        assert [entry["key"] for entry in answer["entries"]] == [key for key in keys if key not in left_out]


async def test_a_key_asked_for_twice_is_answered_once(asker: Asker) -> None:
    _, answer = await asker.ask("/multi-get", {"keys": ["x", "x", "x"]})
    assert answer["missing"] == ["x"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ({"keys": ["a"] * 4}, 413, "batch_too_large"),
        ({}, 400, "invalid_body"),
        ({"keys": "a"}, 400, "invalid_body"),
        ({"keys": [5]}, 400, "invalid_body"),
        ({"keys": [""]}, 400, "invalid_key"),
        ({"keys": ["k" * 21]}, 400, "invalid_key"),
        ({"keys": [], "limit": 1}, 400, "invalid_body"),
    ],
)
async def test_what_is_no_list_of_keys_is_refused(asker: Asker, content: Any, status: int, code: str) -> None:
    answered, problem = await asker.ask("/multi-get", content)
    assert (answered, problem["code"]) == (status, code)


async def test_the_longest_keys_fit_even_where_json_escapes_every_byte(asker: Asker) -> None:
    keys = [chr(number) * 20 for number in (1, 2, 3)]
    status, answer = await asker.ask("/multi-get", {"keys": keys})
    assert (status, answer["missing"]) == (200, keys)
