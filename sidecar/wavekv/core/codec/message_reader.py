"""Reads the msgpack of one message piece by piece, never building more than its schema asks for (G9, G11).

msgpack's own `unpackb` builds everything first: arrays in arrays, of which a few bytes on the wire make hundreds of
megabytes, and keys of maps that are arrays, whose hashes anybody can make collide. Here a header is read, its count
compared with a bound, and only then are its items read; where a scalar belongs, a container is refused unbuilt; what no
schema knows is skipped unbuilt. Keys of maps are text or whole numbers.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import msgpack

from wavekv.core.codec.message_bounds import MessageBounds
from wavekv.core.types import U32_MAX, U64_MAX
from wavekv.errors import BadEnvelope

MALFORMED: Final = (ValueError, TypeError, msgpack.exceptions.UnpackException)
"""What `MessageReader` lets through of msgpack's errors, for the caller to name the field."""

_NIL = 0xC0
_NUMBERS_AT_ONCE = 4096
_SKIP_WINDOWS = (256, 16 << 10)
"""Bytes that a container is skipped in, if they hold it; else in all that may be skipped."""


class MessageReader:
    """A place in the bytes of one message, and what is left of its budget.

    `scalar` returns the next value, `array` and `map` the next header's count. They raise `MALFORMED` where something
    else follows, or a container where a scalar belongs.
    """

    def __init__(self, data: bytes, bounds: MessageBounds) -> None:
        octets_max = bounds.octets + bounds.text
        unpacker = msgpack.Unpacker(
            None,
            max_buffer_size=max(1, len(data)),
            use_list=False,
            max_array_len=0,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=octets_max,
            max_bin_len=octets_max,
        )
        unpacker.feed(data)
        self.bounds = bounds
        self.scalar: Callable[[], Any] = unpacker.unpack
        self.array: Callable[[], int] = unpacker.read_array_header
        self.map: Callable[[], int] = unpacker.read_map_header
        self._rest: Iterator[Any] = unpacker
        self._skip: Callable[[], None] = unpacker.skip
        self._advance: Callable[[int], bytes] = unpacker.read_bytes
        self._place: Callable[[], int] = unpacker.tell
        self._data = data
        self._numbers = bounds.numbers
        self.entries_left, self.origins_left, self.ranges_left = bounds.entries, bounds.origins, bounds.ranges
        """What the fields read so far left of the bounds that several fields share."""
        self._unknown_fields = bounds.unknown_fields
        self._unknown_bytes = bounds.unknown_bytes

    def ended(self) -> bool:
        """Tell whether all bytes were read."""
        return self._place() == len(self._data)

    def peek(self) -> int:
        """Return the next byte, which says the type of the next item.

        Raises:
            BadEnvelope: there is none.
        """
        place = self._place()
        if place >= len(self._data):
            raise BadEnvelope("the message is cut short")
        return self._data[place]

    def take_nil(self) -> bool:
        """Read a nil if one is next; tell whether it was."""
        if self.peek() != _NIL:
            return False
        self.scalar()
        return True

    def count(self, header: Callable[[], int], most: int, what: str) -> int:
        """Read a header and return its count, `most` at most.

        Raises:
            BadEnvelope: it counts more.
        """
        count = header()
        if count > most:
            raise BadEnvelope(f"{what} has {count} items; a message has {most} at most")
        return count

    def scalars(self, count: int, kind: type, rule: str) -> list[Any]:
        """Read `count` values of exactly this type.

        Raises:
            BadEnvelope: one is something else; the text is `rule`.
        """
        found = self.some(count)
        if set(map(type, found)) - {kind}:
            raise BadEnvelope(rule)
        return found

    def some(self, count: int) -> list[Any]:
        """Read `count` values of any type but containers.

        Raises:
            BadEnvelope: the message ends before.
        """
        found = list(islice(self._rest, count))
        if len(found) < count:
            raise BadEnvelope("the message is cut short")
        return found

    def numbers(self, count: int, least: int, most: int, what: str) -> list[int]:
        """Read `count` whole numbers in `least` … `most`. Raises BadEnvelope where one is none."""
        found = self.some(count)
        self.check_numbers(found, least, most, what)
        return found

    @staticmethod
    def check_numbers(found: list[Any], least: int, most: int, what: str) -> None:
        """Check that all of `found` are whole numbers in `least` … `most`. Raises BadEnvelope where one is none."""
        if set(map(type, found)) - {int} or (found and not least <= min(found) <= max(found) <= most):
            raise BadEnvelope(f"{what} has to have whole numbers in {least} … {most}")

    def fields(self, where: str, order: tuple[str, ...], known: frozenset[str]) -> Iterator[str]:
        """Yield the names of a struct's fields, whose value is to be read next; skip unknown ones.

        A struct travels as a map by name, or as an array in `order`, which may be cut short.

        Raises:
            BadEnvelope: it is neither, or a known field comes twice.
        """
        try:
            count = self.map()
        except ValueError:
            yield from order[: self._positions(where, len(order))]
            return
        seen: set[str] = set()
        for _ in range(count):
            name = self.scalar()
            if name in known and name not in seen:
                seen.add(name)
                yield name
            else:
                self.unknown(name, known)

    def _positions(self, where: str, most: int) -> int:
        try:
            count = self.array()
        except ValueError:
            raise BadEnvelope(f"{where} is neither a map nor an array of at most {most}") from None
        if count > most:
            raise BadEnvelope(f"{where} is neither a map nor an array of at most {most}")
        return count

    def unknown(self, name: Any, known: frozenset[str]) -> None:
        """Skip the value of a field that no schema here knows, unbuilt.

        Raises:
            BadEnvelope: its name is known, so it came twice; it is no name; or the budget is used up.
        """
        if type(name) is not str and type(name) is not int:
            raise BadEnvelope("a key of a map is neither text nor a whole number")
        if name in known:
            raise BadEnvelope(f"the field {name!r} is given twice")
        self._unknown_fields -= 1
        if self._unknown_fields < 0:
            raise BadEnvelope(f"there are more than {self.bounds.unknown_fields} fields that are not known here")
        self._skip_value()

    def _skip_value(self) -> None:
        first = self.peek()
        if first < 0x80 or 0xA0 <= first <= 0xBF or 0xC0 <= first <= 0xC3 or first >= 0xE0:
            before = self._place()
            self._skip()
            self._unknown_bytes -= self._place() - before
        else:
            self._skip_long()
        if self._unknown_bytes < 0:
            raise self._too_much_unknown()

    def _skip_long(self) -> None:
        """Skip a value of any length, looking at no more bytes than may be skipped."""
        place = self._place()
        for window in (*_SKIP_WINDOWS, self._unknown_bytes):
            part = memoryview(self._data)[place : place + window]
            unpacker = msgpack.Unpacker(None, max_buffer_size=max(1, len(part)))
            unpacker.feed(part)
            try:
                unpacker.skip()
            except msgpack.exceptions.OutOfData:
                continue
            length = unpacker.tell()
            self._advance(length)
            self._unknown_bytes -= length
            return
        if place + self._unknown_bytes >= len(self._data):
            raise BadEnvelope("the message is cut short")
        raise self._too_much_unknown()

    def _too_much_unknown(self) -> BadEnvelope:
        return BadEnvelope(f"fields that are not known here have more than {self.bounds.unknown_bytes} bytes")

    # ---- values of a type ------------------------------------------------------------------------------------------

    def number(self, least: int, most: int, name: str) -> int:
        """Read a whole number in `least` … `most`.

        Raises:
            BadEnvelope: it is none.
        """
        raw = self.scalar()
        if type(raw) is not int or not least <= raw <= most:
            raise BadEnvelope(f"{name} has to be a whole number in {least} … {most}")
        return raw

    def flag(self, name: str) -> bool:
        """Read true or false. Raises BadEnvelope where it is neither."""
        raw = self.scalar()
        if type(raw) is not bool:
            raise BadEnvelope(f"{name} has to be true or false")
        return raw

    def text(self, name: str) -> str:
        """Read a string of as many bytes as a name or a key may have. Raises BadEnvelope where it is none."""
        raw = self.scalar()
        if type(raw) is not str:
            raise BadEnvelope(f"{name} has to be a string")
        if len(raw) > self.bounds.text:
            raise BadEnvelope(f"{name} has {len(raw)} characters; it may have {self.bounds.text}")
        return raw

    def dot(self, name: str) -> tuple[int, int]:
        """Read `[node, seq]`. Raises BadEnvelope where it is none."""
        if self.array() != 2:
            raise BadEnvelope(f"{name} has to be [node, seq]")
        return self.number(0, U32_MAX, f"{name} node"), self.number(0, U64_MAX, f"{name} seq")

    def octets(self, name: str, most: int) -> bytes:
        """Read bytes, which travel as bin or as an array of small numbers; `most` at most.

        Raises:
            BadEnvelope: they are neither, or too many.
        """
        first = self.peek()
        if 0x90 <= first <= 0x9F or first in {0xDC, 0xDD}:
            return self._octets_by_numbers(name, most)
        raw = self.scalar()
        if type(raw) is not bytes:
            raise BadEnvelope(f"{name} has to be bytes or an array of numbers in 0 … 255")
        if len(raw) > most:
            raise BadEnvelope(f"{name} has {len(raw)} bytes; it may have {most}")
        return raw

    def _octets_by_numbers(self, name: str, most: int) -> bytes:
        count = self.count(self.array, most, name)
        self._numbers -= count
        if self._numbers < 0:
            raise BadEnvelope(f"the message has more than {self.bounds.numbers} bytes as arrays of numbers")
        found, rule = bytearray(), f"{name} has to be bytes or an array of numbers in 0 … 255"
        for begin in range(0, count, _NUMBERS_AT_ONCE):
            items = self.scalars(min(_NUMBERS_AT_ONCE, count - begin), int, rule)
            try:
                found += bytes(items)
            except ValueError:
                raise BadEnvelope(rule) from None
        return bytes(found)
