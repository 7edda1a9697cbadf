"""Cuts a connection's bytes into commands: arrays of binary strings, as Redis clients send them.

hiredis does the parsing, at a third of the cost of the same in Python. It would believe any length, though: the header
of an array reserves its list at once, so thirteen bytes could claim gigabytes. Headers that declare too much are
therefore found before hiredis sees them (G9). The same digits inside a value are no header, and the parser's own state
tells the two apart: it has consumed everything before a header, and nothing of a string that is not complete.
"""

import re
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Final

import hiredis

_MORE: Final = object()
_TYPES = rb"[*~>|]"  # what makes hiredis reserve a list: array, set, push, attribute
_HEADER_BEGUN = re.compile(_TYPES + rb"\d*\Z")
_HEADER_BYTES_MAX: Final = 32  # a longer number is refused by hiredis, as are leading zeros


class BadProtocol(Exception):
    """The client speaks something else; the text is Redis' own. The connection ends after the replies due so far."""


class CommandReader:
    """Takes bytes, gives commands. Never holds more than `bytes_max` and one read of the socket."""

    def __init__(self, bytes_max: int, arguments_max: int) -> None:
        self._bytes_max = bytes_max
        self._arguments_max = arguments_max
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        long_number = _TYPES + rb"(\d{%d,})" % len(str(arguments_max))
        self._long_first = re.compile(long_number)
        self._long_later = re.compile(rb"\n" + long_number)  # begins with one byte: ten times as fast to search
        self._parsed: deque[list[bytes]] = deque()
        self._withheld = b""
        self._unparsed_bytes = 0
        self._broken: BadProtocol | None = None

    def feed(self, data: bytes) -> None:
        """Take what the socket gave; nothing more once the protocol is broken."""
        if self._broken is not None:
            return
        self._unparsed_bytes += len(data)
        data = self._withheld + data
        begun = _HEADER_BEGUN.search(data, max(0, len(data) - _HEADER_BYTES_MAX))
        end = begun.start() if begun else len(data)
        self._withheld = data[end:]  # never the end of a command, so this delays none
        start = 0
        for at in self._suspects(data, end):
            self._reader.feed(data[start:at])
            start = at
            self._parse_all()
            if self._broken is None and not self._reader.has_data():
                self._broken = BadProtocol("invalid multibulk length")
            if self._broken is not None:
                return
        self._reader.feed(data[start:end])

    def _suspects(self, data: bytes, end: int) -> Iterator[int]:
        """Yield where a header with too large a number begins, or a value that looks like one."""
        first = self._long_first.match(data, 0, end)
        later = self._long_later.finditer(data, 0, end)
        for header in chain((first,) if first else (), later):
            if int(header[1][:_HEADER_BYTES_MAX]) > self._arguments_max:
                yield header.start(1) - 1

    def next(self) -> list[bytes] | None:
        """Return the next command, None until more bytes come; the list is empty for an empty array.

        Raises:
            BadProtocol: the bytes are not a command, or one exceeds its bound.
        """
        if self._parsed:
            return self._parsed.popleft()
        if self._broken is not None:
            raise self._broken
        return self._parse()

    def _parse_all(self) -> None:
        try:
            while (command := self._parse()) is not None:
                self._parsed.append(command)
        except BadProtocol as error:
            self._broken = error

    def _parse(self) -> list[bytes] | None:
        try:
            command = self._reader.gets()
        except (hiredis.ProtocolError, TypeError) as error:  # TypeError: a map of RESP3 whose key is an array
            raise BadProtocol(str(error).removeprefix("Protocol error, ")) from error
        if command is _MORE:
            if self._unparsed_bytes > self._bytes_max:
                raise BadProtocol("command too long")
            return None
        self._unparsed_bytes = 0
        if type(command) is not list or len(command) > self._arguments_max:
            raise BadProtocol("expected an array of strings")
        for argument in command:
            if type(argument) is not bytes:
                raise BadProtocol("expected '$'")
        return command
