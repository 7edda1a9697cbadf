"""The command `watch`: what happens to keys, as it happens.

A watch goes on over interruptions: it resumes behind the last token, and says on stderr when it cannot and has to tell
everything anew. Only the first connection may fail the command; later ones are tried until the member is back.
"""

import asyncio
import base64
import binascii
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Final, cast

import click

from wavekv.cli.client import Client
from wavekv.cli.data import SHOWN_BYTES_MAX, as_json_option, visible, visible_value
from wavekv.cli.errors import MemberUnreachable, RefusedByMember
from wavekv.cli.events import Event
from wavekv.cli.interruptible import run_until_interrupted
from wavekv.cli.target import Target, of_store, targeted
from wavekv.cli.waiting import Waits, of_read
from wavekv.errors import UsageError
from wavekv.http_api.values import one_line

_PAUSE_SECONDS: Final = 0.5
_PAUSE_SECONDS_MAX: Final = 10.0
"""Pauses before the member is asked again: the first one, doubled each time up to the last."""

_ENDS: Final = frozenset({"stopping", "slow_reader"})


@click.command()
@click.option("--prefix", help="Keys that begin with this; without --prefix and --key: all.")
@click.option("--key", help="This key alone.")
@click.option("--since", metavar="TOKEN", help="Resume behind the event with this token, as --json shows it.")
@of_read
@as_json_option
@of_store
@targeted
def watch(
    *,
    target: Target,
    prefix: str | None,
    key: str | None,
    since: str | None,
    as_json: bool,
    ephemeral: bool,
    waits: Waits,
) -> None:
    """Print what is held, then each change as it happens, a line each, until interrupted."""
    if prefix is not None and key is not None:
        raise UsageError("--prefix and --key exclude each other; give one")
    query = {"key": key} if key is not None else {"prefix": prefix or ""}

    async def follow() -> None:
        async with Client(target, ephemeral=ephemeral, waits=waits) as client:
            await Follower(client, query, since, partial(show_event, as_json), asyncio.sleep).run()

    run_until_interrupted(follow())


class Follower:
    """One watch over all its connections.

    `show` gets each event and whether its connection resumed behind a token; `pause` waits the seconds it is given.
    """

    def __init__(
        self,
        client: Client,
        query: dict[str, str],
        since: str | None,
        show: Callable[[Event, bool], None],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self._query = query
        self._token = since
        self._show = show
        self._pause = pause
        self._seconds = _PAUSE_SECONDS
        self._connected = False

    async def run(self) -> None:
        """Follow for ever.

        Raises:
            MemberUnreachable, RefusedByMember: the first connection failed, or a later one in a way that will not pass.
        """
        while True:
            try:
                why = await self._connection()
            except RefusedByMember as error:
                if error.answer_code == "watch_expired" and self._token is not None:
                    self._token = None
                    _remark("the token is another member's or too old: beginning anew, some changes may be missing")
                    continue
                if not self._connected or error.answer_status != 503:
                    raise
                why = error.answer_code
            except MemberUnreachable:
                if not self._connected:
                    raise
                why = "the connection was lost"
            anew = "" if self._token is not None else ", beginning anew"
            _remark(f"{why}; watching again in {self._seconds:g} s{anew}")
            await self._pause(self._seconds)
            self._seconds = min(2 * self._seconds, _PAUSE_SECONDS_MAX)

    async def _connection(self) -> str:
        """Show the events of one connection; return why it ended."""
        resumed = self._token is not None
        since = {"since": self._token} if self._token is not None else {}
        stream = cast("AsyncGenerator[Event, None]", self._client.events(self._query | since))
        async with aclosing(stream) as events:
            async for event in events:
                self._connected = True
                self._seconds = _PAUSE_SECONDS
                if event.kind in _ENDS:
                    return str(event.data.get("detail", event.kind))
                self._token = event.token or self._token
                self._show(event, resumed)
        return "the stream ended"


def show_event(as_json: bool, event: Event, resumed: bool) -> None:
    """Print one event; `resumed` says that its connection went on behind a token."""
    if as_json:
        token = {} if event.token is None else {"token": event.token}
        click.echo(one_line({"event": event.kind, **event.data, **token}))
    elif event.kind == "synced":
        _remark("caught up; changes follow" if resumed else "this is what is held; changes follow")
    else:
        value = _value(event)
        parts = [event.kind, visible(str(event.data.get("key", "")))]
        click.echo("\t".join(parts if value is None else [*parts, value]))


def _value(event: Event) -> str | None:
    """Return the event's value as `list` shows one, None where it has none."""
    shown_max = SHOWN_BYTES_MAX if sys.stdout.isatty() else None
    encoded = event.data.get("value_base64")
    if isinstance(encoded, str):
        try:
            return visible_value(base64.b64decode(encoded, validate=True), shown_max)
        except (binascii.Error, ValueError) as error:
            raise MemberUnreachable("what answers is not a WaveKV member: a value of it is not base64") from error
    value = event.data.get("value")
    return None if value is None else visible_value(str(value).encode(), shown_max)


def _remark(text: str) -> None:
    click.echo(f"wavekv: {text}", err=True)
