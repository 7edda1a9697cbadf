"""Cuts a connection's bytes into commands: flat arrays of binary strings, as Redis clients send them.

Nothing is built that a header declares before its bytes are there, and an array inside an array is refused at its
header: a general parser of the protocol (hiredis) reserves a list at each header and nests without end, so 1.6 KB held
26 MiB (G9). Commands that came whole, with no line end inside a value, are taken from one `split` of what came, as fast
as hiredis gave them; all others go through a reader that keeps its place between any two bytes. A line that begins with
a letter, a quote or a space where an array could begin is an inline command; an empty one is none.
"""

from collections import deque
from typing import Final

from wavekv.resp import inline

_SPLIT_MAX: Final = 4096
"""Lines that are split off at once, so that a large read of short lines becomes commands bit by bit."""
_LONG_BYTES: Final = 4096
_LONG_LINES_MAX: Final = 8
"""With so few line ends in so many bytes at its beginning, a read holds a long value, which `split` would only copy."""
_HEADER_BYTES_MAX: Final = 32
"""Longest line of a header; a number that needs more is beyond every bound."""
_ARGUMENT_BYTES: Final = 64
"""What an argument costs beside its bytes: the object and its place in the list."""

_COUNTS: Final = {b"*%d" % count: count for count in range(1, 256)}
_LENGTHS: Final = {b"$%d" % length: length for length in range(4096)}
_ARRAYS: Final = frozenset(b"*~>|%")
_OTHER: Final = frozenset(b"$:+-_,#!=(;.")
"""With what else a value of the protocol begins; anything but these and an array is an inline command."""
_ARRAY: Final = ord("*")
_STRING: Final = ord("$")
_NO_INLINE: Final = _ARRAYS | _OTHER

UNFINISHED: Final[list[bytes]] = []
"""Given by `next` in the place of a command of very many arguments, of which some were read: ask again."""
READ_AT_ONCE: Final = 512
"""Arguments read before that, about half a millisecond."""


class BadProtocol(Exception):
    """The client speaks something else; the text is Redis' own. The connection ends after the replies due so far."""


class CommandReader:
    """Takes bytes, gives commands. Never holds more than `bytes_max` of one and what was fed behind it."""

    def __init__(self, bytes_max: int, arguments_max: int) -> None:
        self._arguments_max = arguments_max
        self._lines: list[bytes] = []  # what came, cut at line ends; the last one is the rest, not cut
        self._at = 0
        self._bytes = b""  # what came, and is read byte by byte from `_place` on
        self._place = 0
        self._behind: deque[bytes] = deque()
        self._partial = _PartialCommand(bytes_max, arguments_max)
        self._broken: BadProtocol | None = None
        self._unread_bytes = 0

    @property
    def held_bytes(self) -> int:
        """What is held by now: of a command that is not complete, with what its arguments cost, and behind it."""
        return self._partial.held_bytes + self._unread_bytes

    @property
    def midway(self) -> bool:
        """Tell whether the beginning of a command was read and its end did not come yet."""
        return self._partial.begun

    def feed(self, data: bytes) -> None:
        """Take what the socket gave; nothing more once the protocol is broken."""
        if self._broken is None and data:
            self._behind.append(data)
            self._unread_bytes += len(data)

    def next(self) -> list[bytes] | None:
        """Return the next command, None until more bytes come; the list is empty for an empty array.

        The very object UNFINISHED is no command: there is more to read, which is better done in another turn.

        Raises:
            BadProtocol: the bytes are not a command, or one exceeds its bound.
        """
        if self._broken is not None:
            raise self._broken
        if self._lines:
            command = self._take_whole()
            if command is not None:
                return command
        try:
            return self._next()
        except BadProtocol as error:
            self._broken = error
            self._lines, self._bytes, self._unread_bytes = [], b"", 0
            self._behind.clear()
            self._partial.clear()
            raise

    def _next(self) -> list[bytes] | None:
        while True:
            if self._lines:  # what remains ends in the midst of a command, or is not as simple
                worth = self._join()
            elif self._bytes:
                worth = False
            elif self._behind:
                self._bytes, self._place = self._behind.popleft(), 0
                worth = not self._partial.begun and (
                    len(self._bytes) < _LONG_BYTES or self._bytes.count(b"\n", 0, _LONG_BYTES) > _LONG_LINES_MAX
                )
            else:
                self._unread_bytes = 0
                return None
            if worth:
                self._lines, self._at = self._bytes.split(b"\r\n", _SPLIT_MAX), 0
                command = self._take_whole()
                if command is not None:
                    return command
                self._lines = []
            command, self._place = self._partial.take(self._bytes, self._place)
            if self._place < len(self._bytes):
                return UNFINISHED if command is None else command
            self._bytes = b""
            if command is not None:
                return command

    def _join(self) -> bool:
        """Put the lines that are left together; tell whether cutting them again is worth it, because most was used."""
        self._bytes, self._place = b"\r\n".join(self._lines[self._at :]), 0
        worth = self._at > _SPLIT_MAX // 2
        self._lines = []
        return worth

    def _take_whole(self) -> list[bytes] | None:
        """Return the next command if its lines are all there and as long as they say; else leave them."""
        lines, at = self._lines, self._at
        count = _COUNTS.get(lines[at])
        if count is None:
            return None
        end = at + 2 * count + 1
        if end >= len(lines) or count > self._arguments_max:
            return None
        words = lines[at + 2 : end : 2]
        place = at + 1
        for word in words:
            if _LENGTHS.get(lines[place]) != len(word):
                return None
            place += 2
        self._at = end
        self._bytes = b""
        if end == len(lines) - 1 and not lines[end]:
            self._lines = []
        return words


class _PartialCommand:
    """One command whose bytes come bit by bit."""

    __slots__ = (
        "_arguments_max",
        "_bytes_max",
        "_header",
        "_left",
        "_line",
        "_need",
        "_raw_bytes",
        "_string",
        "_words",
    )

    def __init__(self, bytes_max: int, arguments_max: int) -> None:
        self._bytes_max = bytes_max
        self._arguments_max = arguments_max
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._words: list[bytes] = []
        self._left = -1  # arguments to come; -1: the array's header is to come
        self._need = -1  # bytes of the string that is read, with its line end; -1: a header is to come
        self._header = b""
        self._line: bytearray | None = None  # of an inline command whose end did not come yet
        self._string = bytearray()
        self._raw_bytes = 0

    @property
    def begun(self) -> bool:
        """Tell whether some of it was read."""
        return self._raw_bytes > 0

    @property
    def held_bytes(self) -> int:
        """What it holds by now, with what its arguments cost."""
        return self._raw_bytes + len(self._words) * _ARGUMENT_BYTES

    def take(self, data: bytes, place: int) -> tuple[list[bytes] | None, int]:
        """Read on from `place`; return the command if it is complete, and the place behind what was read.

        Stops before the end of `data` behind a complete command, or behind `READ_AT_ONCE` arguments.

        Raises:
            BadProtocol: it is none, or exceeds a bound.
        """
        if self._left < 0 and not self._header and (self._line is not None or data[place] not in _NO_INLINE):
            return self._take_line(data, place)
        began = place
        enough = len(self._words) + READ_AT_ONCE
        while place < len(data) and len(self._words) < enough:
            place = self._take_header(data, place) if self._need < 0 else self._take_string(data, place)
            if self._left == 0:
                words = self._words
                self.clear()
                return words, place
        self._raw_bytes += place - began
        if self._raw_bytes > self._bytes_max:
            raise BadProtocol(f"command too long, it has more than {self._bytes_max} bytes; send less at once")
        return None, place

    def _take_line(self, data: bytes, place: int) -> tuple[list[bytes] | None, int]:
        """Read on in an inline command; as `take`."""
        end = data.find(b"\n", place)
        more = data[place : end if end >= 0 else len(data)]
        line = self._line if self._line is not None else bytearray()
        line += more
        if len(line) > min(inline.LINE_BYTES_MAX, self._bytes_max):
            raise BadProtocol("too big inline request")
        if inline.is_tls(line):
            raise BadProtocol("this port speaks no TLS; connect without it")
        if end < 0:
            self._line = line
            self._raw_bytes = len(line)
            return None, len(data)
        self.clear()
        whole = bytes(line)
        if inline.is_http(whole):
            raise BadProtocol("this is the Redis plane and no HTTP server")
        try:
            words = inline.words_of(whole)
        except inline.UnbalancedQuotes:
            raise BadProtocol("unbalanced quotes in request") from None
        if len(words) > self._arguments_max:
            raise BadProtocol("invalid multibulk length")
        return words, end + 1

    def _take_header(self, data: bytes, place: int) -> int:
        end = data.find(b"\n", place, place + _HEADER_BYTES_MAX)
        line = self._header + data[place : end + 1 if end >= 0 else place + _HEADER_BYTES_MAX]
        kind = line[0]
        if len(line) > _HEADER_BYTES_MAX and kind not in _ARRAYS:
            raise BadProtocol("invalid bulk length" if kind == _STRING else _expected(self._left, kind))
        if len(line) > _HEADER_BYTES_MAX:
            raise BadProtocol("invalid multibulk length")
        if end < 0:
            if kind not in _ARRAYS and kind != (_ARRAY if self._left < 0 else _STRING):
                raise BadProtocol(_expected(self._left, kind))
            self._header = line
            return len(data)
        self._header = b""
        self._begin(kind, line)
        return end + 1

    def _begin(self, kind: int, line: bytes) -> None:
        """Act on a whole header."""
        number = line[1:-2]
        counted = number.isdigit() and line.endswith(b"\r\n")
        if kind == _ARRAY and self._left < 0 and number[:1] == b"-" and number[1:].isdigit():
            number, counted = b"0", line.endswith(b"\r\n")  # Redis takes less than none for none
        if kind in _ARRAYS and not (counted and int(number) <= self._arguments_max):
            raise BadProtocol("invalid multibulk length")
        if kind != (_ARRAY if self._left < 0 else _STRING):
            raise BadProtocol(_expected(self._left, kind))
        if not counted:
            raise BadProtocol("invalid bulk length")
        if kind == _ARRAY:
            self._left = int(number)
        else:
            self._need = int(number) + 2

    def _take_string(self, data: bytes, place: int) -> int:
        end = place + self._need - len(self._string)
        if not self._string and end <= len(data):
            word, behind = data[place : end - 2], data[end - 2 : end]
        else:
            self._string += data[place:end]
            if end > len(data):
                return len(data)
            word, behind = bytes(memoryview(self._string)[:-2]), bytes(self._string[-2:])
            self._string = bytearray()
        if behind != b"\r\n":
            raise BadProtocol("expected a line end behind a string")
        self._words.append(word)
        self._left -= 1
        self._need = -1
        return end


def _expected(left: int, kind: int) -> str:
    found = f"got '{chr(kind) if 0x20 < kind < 0x7F else '?'}'"
    return f"expected '*', {found}" if left < 0 else f"expected '$', {found}"
