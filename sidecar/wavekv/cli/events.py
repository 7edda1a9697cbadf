"""Reads a stream of Server-Sent Events as its bytes come."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from wavekv.cli.errors import MemberUnreachable

_UNREAD_BYTES_MAX: Final = 16 << 20
"""Bytes of one event; the longest value has 6 MiB where JSON escapes all of it."""


class Event(NamedTuple):
    """One event: its name, the token to resume behind it if it has one, and its data."""

    kind: str
    token: str | None
    data: dict[str, Any]


class EventReader:
    """Turns pieces of a stream into events. Comments and unknown fields are passed over."""

    def __init__(self) -> None:
        self._unread = b""
        self._fields: dict[str, str] = {}

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that `piece` completes.

        Raises:
            MemberUnreachable: what comes is not a stream of ours.
        """
        *lines, self._unread = (self._unread + piece).split(b"\n")
        if len(self._unread) > _UNREAD_BYTES_MAX:
            raise MemberUnreachable("what answers sends no events of a WaveKV member")
        for line in lines:
            if not line.strip(b"\r"):
                if "data" in self._fields:
                    yield self._event()
                self._fields = {}
                continue
            name, _, value = line.decode(errors="replace").rstrip("\r").partition(":")
            self._fields[name] = value.removeprefix(" ")

    def _event(self) -> Event:
        try:
            data = json.loads(self._fields["data"])
        except ValueError as error:
            raise MemberUnreachable("what answers sends no events of a WaveKV member") from error
        if not isinstance(data, dict):
            raise MemberUnreachable("what answers sends no events of a WaveKV member")
        return Event(self._fields.get("event", "message"), self._fields.get("id"), data)
