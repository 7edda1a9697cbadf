"""What a request comes down to once it is routed: the store it speaks to, its key, its parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

from aiohttp import web

from wavekv.config import Limits
from wavekv.core.types import Entry
from wavekv.http_api.streams import Streams
from wavekv.http_api.target import key_from
from wavekv.ports import Clock, KeyValues
from wavekv.web_connections import BoundedHandler

BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Shared:
    """What the requests of one server share."""

    limits: Limits
    clock: Clock
    streams: Streams


class Call(NamedTuple):
    """One request. `escaped_key` is as the client wrote it, `given` are the parameters, of known names only.

    `ends_at` is the monotonic second until which it may wait for other members.
    """

    request: web.BaseRequest
    store: KeyValues
    escaped_key: str
    given: Mapping[str, str]
    shared: Shared
    ends_at: float

    @property
    def seconds_left(self) -> float:
        """How long the request may still wait for other members; below 0: no longer."""
        return self.ends_at - self.shared.clock.monotonic()

    async def room_for(self, size: int) -> None:
        """Wait for room for an answer of `size` bytes. Raises TooManyBytes."""
        await cast("BoundedHandler", self.request.protocol).room_for(size)

    @property
    def key(self) -> str:
        """The key. Raises InvalidKey."""
        return key_from(self.escaped_key, self.shared.limits.key_bytes_max)


def quoted(entry: Entry) -> str:
    """Return the entity tag as headers carry it."""
    return f'"{entry.etag}"'
