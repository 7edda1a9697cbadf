"""If-Match and If-None-Match over HTTP, with the short way of plain requests and without it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.planes import Plane, fast_http, plain_http, plane


@pytest.fixture(params=[fast_http, plain_http])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    async with plane(request.param) as serving:
        yield serving


@pytest.fixture
async def client(http: Plane) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(http.url) as session:
        yield session


async def ask(
    client: aiohttp.ClientSession, method: str, data: bytes | None = None, **headers: str
) -> tuple[int, str | None, str]:
    """Return status, entity tag, and the body or the problem's code."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, "/v1/kv/k", data=data, headers=named) as answer:
        problem = answer.content_type == "application/problem+json" and method != "HEAD"
        body = (await answer.json())["code"] if problem else (await answer.read()).decode()
        return answer.status, answer.headers.get("ETag"), body


async def test_a_key_is_created_once(client: aiohttp.ClientSession) -> None:
    created = await ask(client, "PUT", b"1", If_None_Match="*")
    assert created[0] == 201
    again = await ask(client, "PUT", b"2", If_None_Match="*")
    assert again == (412, created[1], "precondition_failed")
    assert (await ask(client, "GET"))[2] == "1"


async def test_a_value_is_replaced_only_over_the_one_that_was_read(client: aiohttp.ClientSession) -> None:
    _, first, _ = await ask(client, "PUT", b"1")
    assert first is not None
    status, second, _ = await ask(client, "PUT", b"2", If_Match=first)
    assert (status, second != first) == (200, True)
    assert await ask(client, "PUT", b"3", If_Match=first) == (412, second, "precondition_failed")
    assert (await ask(client, "PUT", b"3", If_Match=f'"0.0.0", {second}'))[0] == 200


async def test_a_condition_on_an_absent_key_names_no_tag(client: aiohttp.ClientSession) -> None:
    assert await ask(client, "PUT", b"1", If_Match="*") == (412, None, "precondition_failed")
    assert await ask(client, "DELETE", If_Match="*") == (412, None, "precondition_failed")
    assert (await ask(client, "DELETE"))[2] == "not_found"


async def test_a_delete_can_be_conditional(client: aiohttp.ClientSession) -> None:
    _, tag, _ = await ask(client, "PUT", b"1")
    assert tag is not None
    assert (await ask(client, "DELETE", If_Match='"0.0.0"'))[0] == 412
    assert (await ask(client, "DELETE", If_Match=tag))[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_reader_that_has_the_value_is_told_so(client: aiohttp.ClientSession, method: str) -> None:
    _, tag, _ = await ask(client, "PUT", b"1")
    assert tag is not None
    for condition in (tag, f"W/{tag}", f'"0.0.0", {tag}', "*"):
        assert await ask(client, method, If_None_Match=condition) == (304, tag, "")
    assert (await ask(client, method, If_None_Match='"0.0.0"'))[0] == 200
    assert (await ask(client, method, If_Match=tag))[0] == 200
    assert (await ask(client, method, If_Match='"0.0.0"'))[0] == 412


async def test_a_weak_tag_never_allows_a_write(client: aiohttp.ClientSession) -> None:
    _, tag, _ = await ask(client, "PUT", b"1")
    assert (await ask(client, "PUT", b"2", If_Match=f"W/{tag}"))[0] == 412


async def test_several_header_lines_are_one_list(client: aiohttp.ClientSession, http: Plane) -> None:
    _, tag, _ = await ask(client, "PUT", b"1")
    assert tag is not None
    lines = [("If-Match", '"0.0.0"'), ("If-Match", tag)]
    async with client.put("/v1/kv/k", data=b"2", headers=lines) as answer:
        assert answer.status == 200
    assert http.store.entries["k"].value == b"2"


@pytest.mark.parametrize("tags", ["", "x", '"a', 'a"', "*, *", '"a",', "W/", "w/" + '"a"', ",".join(['"a"'] * 101)])
@pytest.mark.parametrize("name", ["If_Match", "If_None_Match"])
async def test_what_is_no_list_of_tags_is_refused_and_nothing_is_written(
    client: aiohttp.ClientSession, http: Plane, tags: str, name: str
) -> None:
    assert await ask(client, "PUT", b"1", **{name: tags}) == (400, None, "invalid_condition")
    assert not http.store.entries


async def test_a_connection_goes_on_after_a_condition_failed(client: aiohttp.ClientSession) -> None:
    await ask(client, "PUT", b"1")
    for _ in range(3):
        assert (await ask(client, "PUT", b"x" * 100_000, If_None_Match="*"))[0] == 412
    assert (await ask(client, "GET"))[2] == "1"
