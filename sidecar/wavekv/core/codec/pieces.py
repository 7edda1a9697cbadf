"""A msgpack document read piece by piece: what it may hold is asked before any of it is built.

`msgpack.unpackb` builds whatever the bytes say: a byte of an empty map takes a hundred in memory, and a header that
claims a million elements gets room for them before the first one is read. Here the reader of a format asks for the
piece its schema has next: the header of an array or a map, whose length is compared with a bound first; a scalar,
where no container is accepted; or nothing, where a field is unknown, which is passed over unbuilt. So a document costs
what its schema allows, whoever wrote it.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgpack

_READ_BYTES: Final = 1 << 16
"""Handed to the parser at a time, so that a long document is not held twice."""
_MAP_BYTES: Final = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_ARRAY_BYTES: Final = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
_CONTAINER_BYTES: Final = _MAP_BYTES | _ARRAY_BYTES


_T = TypeVar("_T")


class PieceError(ValueError):
    """The next piece is not of the kind or size that was asked for, or the document ends before it."""


class _Source:
    """What the parser reads from."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._position = start

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        start = self._position
        self._position = start + size
        return self._data[start : start + size]


class Pieces:
    """One document in `data`, from `start` on; what comes behind its end is nobody's. Every method raises PieceError.

    Strings and byte strings are as long as `data` at most; arrays and maps come only by their headers.
    """

    def __init__(self, data: bytes, start: int = 0) -> None:
        self._data = data
        self._start = start
        bounds = {"max_array_len": 0, "max_map_len": 0, "max_ext_len": 0}
        room = len(data) + _READ_BYTES
        self._parser = msgpack.Unpacker(_Source(data, start), read_size=_READ_BYTES, max_buffer_size=room, **bounds)

    @property
    def at(self) -> int:
        """Where in `data` the next piece begins."""
        return self._start + int(self._parser.tell())

    def _kind(self) -> int:
        at = self.at
        if at >= len(self._data):
            raise PieceError(f"it ends inside a field, after {len(self._data)} bytes")
        return self._data[at]

    def is_map(self) -> bool:
        """Tell whether a map is next."""
        return self._kind() in _MAP_BYTES

    def is_array(self) -> bool:
        """Tell whether an array is next."""
        return self._kind() in _ARRAY_BYTES

    def map(self, most: int) -> int:
        """Return how many pairs the map that is next has; they are to be read as pieces."""
        if not self.is_map():
            raise PieceError(f"there is no map at {self.at}")
        return self._bounded(self._read(self._parser.read_map_header), most)

    def array(self, most: int) -> int:
        """Return how many elements the array that is next has; they are to be read as pieces."""
        if not self.is_array():
            raise PieceError(f"there is no array at {self.at}")
        return self._bounded(self._read(self._parser.read_array_header), most)

    def _bounded(self, count: int, most: int) -> int:
        if count > most:
            raise PieceError(f"{count} elements before {self.at}, where {most} may be")
        if count > len(self._data) - self.at:
            raise PieceError(f"it ends inside {count} elements, after {len(self._data)} bytes")
        return count

    def scalar(self) -> Any:
        """Return the nil, bool, number, string or byte string that is next."""
        if self._kind() in _CONTAINER_BYTES:
            raise PieceError(f"there is no plain value at {self.at}")
        return self._read(self._parser.unpack)

    def scalars(self, most: int) -> list[Any]:
        """Return the array of plain values that is next. Empty arrays and maps may be among them."""
        count = self.array(most)
        unpack = self._parser.unpack
        return self._read(lambda: [unpack() for _ in range(count)])

    def skip(self) -> None:
        """Pass over whatever is next."""
        self._kind()
        self._read(self._parser.skip)

    def _read(self, step: Callable[[], _T]) -> _T:
        try:
            return step()
        except msgpack.exceptions.OutOfData as error:
            raise PieceError(f"it ends inside a field, after {len(self._data)} bytes") from error
        except (msgpack.exceptions.UnpackException, ValueError, RecursionError) as error:
            raise PieceError(f"it is not msgpack ({error or type(error).__name__})") from error


def flat_array(data: bytes, most: int) -> list[Any]:
    """Return a document that is an array of plain values and nothing else, in C all through.

    Half again as long as `unpackb` takes, which is the price of its bounds. Empty arrays and maps may be among them.

    Raises:
        PieceError: it is something else, or longer than `most`.
    """
    count, begin = _array_header(data)
    if count > min(most, len(data)):
        raise PieceError(f"{count} elements, where {most} may be")
    parser = msgpack.Unpacker(max_buffer_size=len(data) + 1, max_array_len=0, max_map_len=0, max_ext_len=0)
    parser.feed(memoryview(data)[begin:])
    try:
        flat = list(parser)
    except (msgpack.exceptions.UnpackException, ValueError, RecursionError) as error:
        raise PieceError(f"it is not an array of plain values ({error or type(error).__name__})") from error
    if len(flat) != count or parser.tell() != len(data) - begin:
        raise PieceError(f"{len(flat)} elements, and {count} announced")
    return flat


def _array_header(data: bytes) -> tuple[int, int]:
    """Return how many elements the array that `data` begins with has, and where the first one is."""
    width = {0xDC: 2, 0xDD: 4}.get(data[0] if data else 0)
    if width is not None and len(data) > width:
        return int.from_bytes(data[1 : 1 + width], "big"), 1 + width
    if data and 0x90 <= data[0] < 0xA0:
        return data[0] & 0x0F, 1
    raise PieceError("it does not begin with an array")
