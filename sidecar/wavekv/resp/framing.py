"""Cuts a connection's bytes into commands: arrays of binary strings, as Redis clients send them.

hiredis does the parsing, at a third of the cost of the same in Python. It would believe any length, though: an array
header reserves its list at once, so thirteen bytes could claim gigabytes. Headers that declare too much are therefore
found before hiredis sees them (G9). The same digits inside a value are no header, and the parser's own state tells the
two apart: it has consumed everything before a header, and nothing of a string that is not complete.
"""

import re
from collections import deque
from typing import Final

import hiredis

_MORE: Final = object()
_HEADER_BEGUN = re.compile(rb"\*\d*\Z")


class BadProtocol(Exception):
    """The client speaks something else; the text is Redis' own. The connection ends after the replies due so far."""


class CommandReader:
    """Takes bytes, gives commands. Never holds more than `bytes_max` and one read of the socket."""

    def __init__(self, bytes_max: int, arguments_max: int) -> None:
        self._bytes_max = bytes_max
        self._arguments_max = arguments_max
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._long_header = re.compile(rb"\*(\d{%d,})" % len(str(arguments_max)))
        self._parsed: deque[list[bytes]] = deque()
        self._withheld = b""
        self._unparsed_bytes = 0
        self._broken: BadProtocol | None = None

    def feed(self, data: bytes) -> None:
        """Take what the socket gave."""
        self._unparsed_bytes += len(data)
        data = self._withheld + data
        begun = _HEADER_BEGUN.search(data)  # never the end of a command, so withholding it delays none
        end = begun.start() if begun else len(data)
        self._withheld = data[end:]
        start = 0
        for header in self._long_header.finditer(data, 0, end):
            if int(header[1][:20]) > self._arguments_max and self._broken is None:
                self._reader.feed(data[start : header.start()])
                start = header.start()
                self._parse_all()
                if not self._reader.has_data():
                    self._broken = self._broken or BadProtocol("invalid multibulk length")
        if self._broken is None:
            self._reader.feed(data[start:end])

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
        except hiredis.ProtocolError as error:
            raise BadProtocol(_first_word(error)) from error
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


def _first_word(error: hiredis.ProtocolError) -> str:
    return str(error).removeprefix("Protocol error, ")
