"""Reads a request body within its bound (G9): refused by its declared length before it is read, else while it comes.

The HTTP library's own bound was turned down: it answers in its own words, and only after reading.
"""

from aiohttp import HttpVersion11, web

from wavekv.errors import (
    BatchTooLarge,
    IncompleteBody,
    NotImplementedHere,
    RequestError,
    RequestTooSlow,
    TooManyBytes,
    ValueTooLarge,
)
from wavekv.web_connections import refuse_cut_body

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

UNREAD = (ValueTooLarge, BatchTooLarge, RequestTooSlow, TooManyBytes)
"""The refusals that leave a body unread."""


async def read_value(request: web.BaseRequest, bytes_max: int) -> bytes:
    """Return the whole body as a value of at most `bytes_max` bytes. Raises ValueTooLarge, else as `read_body`."""
    return await _read(request, bytes_max, ValueTooLarge, "value")


async def read_body(request: web.BaseRequest, bytes_max: int) -> bytes:
    """Return the whole body, at most `bytes_max` bytes.

    Raises:
        BatchTooLarge: the body is longer, by its declared length or by what came.
        IncompleteBody: the connection ended, or the framing broke, before the body's end.
        NotImplementedHere: an expectation other than 100-continue.
        RequestTooSlow, TooManyBytes: it was cut by the bounds of the plane.
    """
    return await _read(request, bytes_max, BatchTooLarge, "body")


async def _read(request: web.BaseRequest, bytes_max: int, refusal: type[RequestError], what: str) -> bytes:
    declared = request.content_length
    if declared is not None and declared > bytes_max:
        raise refusal(f"the {what} has {declared} bytes; at most {bytes_max} are allowed")
    await _meet_expectation(request)
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := await request.content.readany():
            size += len(chunk)
            if size > bytes_max:
                raise refusal(f"the {what} has more than {bytes_max} bytes")
            chunks.append(chunk)
    except (web.RequestPayloadError, ConnectionError) as error:
        raise IncompleteBody(f"the body was cut short after {size} bytes; nothing is stored") from error
    refuse_cut_body(request)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _meet_expectation(request: web.BaseRequest) -> None:
    expectation = request.headers.get("Expect")
    if expectation is None or request.version < HttpVersion11:
        return
    if expectation.lower() != "100-continue":
        raise NotImplementedHere(f"Expect: {expectation[:80]} is not implemented; 100-continue is")
    await request.writer.write(_CONTINUE)
    request.writer.output_size = 0  # what counts is the answer, which has not begun
