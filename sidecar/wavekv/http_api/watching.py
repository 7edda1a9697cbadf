"""A watch: which keys, behind which token, and the stream that answers it."""

from typing import Final

from wavekv.core.types import parse_key
from wavekv.errors import InvalidParameter, Stopping, WatchExpired
from wavekv.http_api.calls import Call
from wavekv.http_api.streams import EventStream
from wavekv.http_api.target import flag

PARAMETERS: Final = ("prefix", "key", "since", "reset")
LAST_EVENT_ID: Final = "Last-Event-ID"


async def watch(call: Call) -> EventStream:
    """Begin a watch; a refusal is an answer as any other.

    `Last-Event-ID` beats `since`: a browser repeats the address it was given and adds what it saw since. With `reset` a
    token that is another member's or too old is no refusal, at which a browser would give up for good: the watch begins
    anew, and every beginning says `reset` first.
    """
    shared, given = call.shared, call.given
    if shared.streams.stopped:
        raise Stopping("the member stops; watch its successor")
    if "key" in given and "prefix" in given:
        raise InvalidParameter("key and prefix exclude each other; give one")
    since = call.request.headers.get(LAST_EVENT_ID) or given.get("since")
    if "key" in given:
        selector = parse_key(given["key"].encode(), shared.limits.key_bytes_max)
    else:
        selector = given.get("prefix", "")
    prefix, reset = "key" not in given, flag("reset", given.get("reset", "false"))
    if not reset or since is None:
        return EventStream(call.store.watch(selector, prefix=prefix, since=since), shared.streams, reset=reset)
    try:
        return EventStream(call.store.watch(selector, prefix=prefix, since=since), shared.streams)
    except WatchExpired:
        return EventStream(call.store.watch(selector, prefix=prefix, since=None), shared.streams, reset=True)
