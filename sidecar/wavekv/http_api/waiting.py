"""What a request may wait for beyond this member's own disk: its session to be covered, its write to be elsewhere.

Both share one bound, `?timeout=seconds`, counted from when the request came. A waiting request ends when its client
leaves; what it wrote stays.
"""

import asyncio
import re
from collections.abc import Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Self, TypeVar, cast

from wavekv.config import Limits
from wavekv.core.session import DotRange, parse_token, token_of
from wavekv.errors import DurabilityTimeout, InvalidParameter, Stopping
from wavekv.http_api.calls import Call
from wavekv.http_api.fast import SESSION, FastConnection
from wavekv.http_api.target import whole_number
from wavekv.ports import Spread

DURABILITY: Final = "durability"
TIMEOUT: Final = "timeout"
ALL: Final = "all"
"""As a durability: on every member."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")
_MEMBERS_NAMED_MAX: Final = 10**9
"""Greatest durability that is compared with the number of members."""

_Result = TypeVar("_Result")


def seconds_from(given: Mapping[str, str], limits: Limits) -> float:
    """Return how long a request may wait, in seconds.

    Raises:
        InvalidParameter: `timeout` is no number of seconds, or above the bound.
    """
    asked = given.get(TIMEOUT)
    if asked is None:
        return limits.wait_ms_default / 1000
    milliseconds = int(Decimal(asked) * 1000) if _SECONDS.fullmatch(asked) else -1
    if not 0 <= milliseconds <= limits.wait_ms_max:
        most = limits.wait_ms_max // 1000
        raise InvalidParameter(f"timeout={asked[:80]!r} is no number of seconds with up to 3 decimals, 0 to {most}")
    return milliseconds / 1000


async def await_session(call: Call) -> None:
    """Wait until the member covers the session in the request's header, if it has one.

    Raises:
        InvalidSession: it is no session token.
        CoverageTimeout, TooManyWaiting: as `KeyValues.covered`.
        ConnectionError: the client has gone.
    """
    lines = call.request.headers.getall(SESSION, None)
    if lines is not None:
        limits = call.shared.limits
        dots = parse_token(",".join(lines), bytes_max=limits.session_bytes_max, ranges_max=limits.session_ranges_max)
        await _until(call, call.store.covered(dots, call.seconds_left))


async def _until(call: Call, waiting: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what `waiting` comes to; end it when the client leaves.

    Raises:
        ConnectionError: the client has gone.
        Stopping: the member stops.
    """
    connection = cast("FastConnection", call.request.protocol)
    task = asyncio.ensure_future(waiting)
    connection.waiting = task
    try:
        return await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        if call.shared.streams.stopped and connection.transport is not None:
            raise Stopping("the member stops; ask another one") from None
        raise ConnectionResetError("the client has gone") from None
    finally:
        connection.waiting = None


class Spreading:
    """A write and what it waits for: on this member alone unless `durability` asks for more. A context manager.

    Raises (when entered):
        InvalidParameter: `durability` is neither a number above 0 nor `all`.
        DurabilityImpossible, TooManyWaiting: as `KeyValues.spread`.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._count = _count(call.given)
        self._spread: Spread | None = None

    def __enter__(self) -> Self:
        if self._count != 1:
            self._spread = self._call.store.spread(self._count)
            self._spread.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._spread is not None:
            self._spread.__exit__(*error)

    async def reached(self, dots: Sequence[DotRange], etag: str | None = None) -> dict[str, str]:
        """Wait until enough members hold `dots`, which are durable here; return the headers that tell of them.

        Raises:
            DurabilityTimeout: they do not in time; it carries `etag` and the session.
            ConnectionError: the client has gone.
        """
        if not dots:
            return {}
        if self._spread is not None:
            try:
                await _until(self._call, self._spread.reached(dots, self._call.seconds_left))
            except DurabilityTimeout as error:
                error.etag = etag
                raise
            except Stopping as error:
                held, detail = (
                    self._spread.holders(dots),
                    "the member stops; the write stays, and goes on to the others",
                )
                late = DurabilityTimeout(detail, held, token_of(dots))
                late.etag = etag
                raise late from error
        return {SESSION: token_of(dots)}


def _count(given: Mapping[str, str]) -> int | None:
    """Return on how many members a write has to be durable, None: on all."""
    asked = given.get(DURABILITY, "1")
    return None if asked == ALL else whole_number(f"{DURABILITY} (a number or {ALL})", asked, 1, _MEMBERS_NAMED_MAX)
