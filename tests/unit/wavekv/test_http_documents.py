"""What a hostile document may cost: refused by name before it is built, with a bound on the memory of reading it."""

import io
import tracemalloc
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.planes import Plane, fast_http, plane
from wavekv.config import Limits

BODY_MAX = 2 * Limits().batch_bytes_max
MIB = 1 << 20


@pytest.fixture
async def http() -> AsyncIterator[Plane]:
    async with plane(fast_http) as serving:
        yield serving


def batch(operation: str) -> bytes:
    return b'{"operations": [%s]}' % operation.encode()


PUT = '{"op": "put", "key": "k", "value": "v", "ttl": %s}'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * (BODY_MAX - 1), "invalid_body"),
        (b'{"a":' * 200_000, "invalid_body"),
        (b"[" * 100_000 + b"]" * 100_000, "invalid_body"),
        (batch("[" * 5000 + "]" * 5000), "invalid_body"),
        (batch(PUT % ("9" * MIB)), "invalid_body"),
        (batch(PUT % "1e999999"), "invalid_parameter"),
        (batch(PUT % "1e308"), "invalid_parameter"),
        (batch(PUT % ("0." + "1" * MIB)), "invalid_parameter"),
        (batch(PUT % "-1"), "invalid_parameter"),
        (batch(PUT % "NaN"), "invalid_body"),
        (batch(PUT % '{"a": 1}'), "invalid_parameter"),
        (b'"' + b"\\u0041" * (BODY_MAX // 6 - 1), "invalid_body"),
        (b"{" + b'"",' * (BODY_MAX // 4), "invalid_body"),
    ],
)
async def test_a_hostile_document_is_refused_and_holds_little(http: Plane, body: bytes, code: str) -> None:
    headers = {"Content-Type": "application/json"}
    tracemalloc.start()
    try:
        async with (
            aiohttp.ClientSession(http.url) as client,
            client.post("/v1/batch", data=io.BytesIO(body), headers=headers) as answer,
        ):
            refusal = await answer.json(content_type=None)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (answer.status, refusal["code"]) == (400, code)
    assert not http.store.entries
    assert most < 6 * len(body) + 8 * MIB, "the body at both ends of the connection, its copies, and what it builds"
