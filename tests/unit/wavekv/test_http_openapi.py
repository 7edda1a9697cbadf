"""The API's description says what the server does: routes, methods, parameters, statuses; and both stores have them."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes.planes import Plane, fast_http, plain_http, plane
from wavekv.http_api import HttpApi
from wavekv.http_api.routes import ALWAYS

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH")


@pytest.fixture(params=[fast_http, plain_http])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Plane]:
    async with plane(request.param) as serving:
        yield serving


@pytest.fixture
async def client(http: Plane) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(http.url) as session:
        yield session


async def described(client: aiohttp.ClientSession) -> dict[str, Any]:
    async with client.get("/openapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        return dict(await answer.json())


async def test_the_document_and_the_table_name_the_same_routes_parameters_and_statuses(
    http: Plane, client: aiohttp.ClientSession
) -> None:
    assert isinstance(http.server, HttpApi)
    table = http.server.table
    paths = (await described(client))["paths"]
    assert set(paths) == set(table)
    for path, operations in table.items():
        assert set(paths[path]) == {method.lower() for method in operations}
        for method, operation in operations.items():
            found = paths[path][method.lower()]
            named = {(parameter["in"], parameter["name"]) for parameter in found["parameters"]}
            expected = {("query", name) for name in operation.parameters} | {
                ("header", name) for name in operation.headers
            }
            assert named == expected | ({("path", "key")} if "{key}" in path else set())
            assert set(found["responses"]) == {str(status) for status in (*operation.answers, *ALWAYS)}
            assert ("requestBody" in found) == (method in {"PUT", "POST"})


async def test_what_the_document_names_is_served_and_nothing_else(client: aiohttp.ClientSession) -> None:
    for path, operations in (await described(client))["paths"].items():
        at = path.replace("{key}", "k")
        for method in METHODS:
            query = {"unknown": "1"}
            async with client.request(method, at, params=query) as answer:
                allowed = method.lower() in operations
                assert answer.status == (400 if allowed else 405), (method, path)
                if not allowed:
                    assert set(answer.headers["Allow"].lower().split(", ")) == set(operations)
        for method, operation in operations.items():
            for parameter in operation["parameters"]:
                if parameter["in"] == "query":
                    query = {parameter["name"]: "\x7f"}
                    async with client.request(method, at, params=query) as answer:
                        text = "" if answer.status == 200 else await answer.text()
                        assert "unknown" not in text, (method, path, parameter)


async def test_every_reference_in_the_document_leads_somewhere(client: aiohttp.ClientSession) -> None:
    document = await described(client)
    references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert references == set(document["components"]["schemas"])


async def test_the_two_stores_do_not_see_each_other(http: Plane, client: aiohttp.ClientSession) -> None:
    for _ in range(2):
        async with client.put("/v1/ephemeral/kv/k", data=b"e") as answer:
            assert answer.status in {200, 201}
        async with client.put("/v1/kv/ephemeral/kv/k", data=b"d") as answer:
            assert answer.status in {200, 201}
    assert {key: entry.value for key, entry in http.store.entries.items()} == {"ephemeral/kv/k": b"d"}
    assert {key: entry.value for key, entry in http.ephemeral.entries.items()} == {"k": b"e"}
    for path, status in (("/v1/kv/k", 404), ("/v1/ephemeral/kv/k", 200)):
        async with client.get(path) as answer:
            assert answer.status == status
    async with client.get("/v1/ephemeral/kv?keys_only=true") as answer:
        assert [entry["key"] for entry in (await answer.json())["entries"]] == ["k"]
    async with client.get("/v1/ephemeral/explain/k") as answer:
        assert (await answer.json())["winner"] == "2.7.2"
    async with client.delete("/v1/ephemeral/kv/k") as answer:
        assert answer.status == 200


async def test_a_member_without_an_ephemeral_store_says_so() -> None:
    for fast in (True, False):

        def kind(store: Any, _: Any, limits: Any, observer: Any, clock: Any, fast: bool = fast) -> HttpApi:
            return HttpApi(store, None, limits, observer, clock, fast=fast)

        async with plane(kind) as http, aiohttp.ClientSession(http.url) as client:
            for _ in range(2):
                async with client.get("/v1/ephemeral/kv/k") as answer:
                    assert (answer.status, (await answer.json())["code"]) == (501, "not_implemented")


async def test_an_explanation_is_the_store_s(http: Plane, client: aiohttp.ClientSession) -> None:
    await http.store.put("a/b", b"v")
    async with client.get("/v1/explain/a%2Fb") as answer:
        assert await answer.json() == http.store.explain("a/b")
    async with client.get("/v1/explain/") as answer:
        assert answer.status == 400
    assert http.operations.seen[0] == ("http", "explain", "ok")
