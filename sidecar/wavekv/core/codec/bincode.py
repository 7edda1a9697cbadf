"""The integers, strings and options of the log's bytes: bincode 2, "standard" configuration.

Little-endian, no field names, no padding. A varint is one byte up to 250, else a tag (`fb` u16, `fc` u32, `fd` u64)
and that many bytes. Writing always takes the shortest form; reading accepts a longer one as the original system does,
but refuses a tag wider than the field, whatever the value.

Every `read_*` takes a bytes object and a position and returns `(value, position behind it)`; a bytes object holds one
record's body, so running off its end means that the field is cut. Turned down: a cursor class, which costs an
attribute store per field.
"""

import struct

TAG_U16 = 0xFB
TAG_U32 = 0xFC
TAG_U64 = 0xFD

_ONE_BYTE = tuple(bytes([value]) for value in range(TAG_U16))
_pack_u16 = struct.Struct("<BH").pack
_pack_u32 = struct.Struct("<BI").pack
_pack_u64 = struct.Struct("<BQ").pack
_u16_at = struct.Struct("<H").unpack_from
_u32_at = struct.Struct("<I").unpack_from
_u64_at = struct.Struct("<Q").unpack_from


class DecodeError(Exception):
    """Bytes that are no value of the field asked for. Stays inside codec and log; callers name the damage."""


class TruncatedError(DecodeError):
    """The bytes end inside the field."""


class InvalidError(DecodeError):
    """A tag, option, bool or string that no writer makes."""


def varint(value: int) -> bytes:
    """Return the shortest encoding of `value` (0 … 2^64-1)."""
    if value < TAG_U16:
        return _ONE_BYTE[value]
    if value <= 0xFFFF:
        return _pack_u16(TAG_U16, value)
    if value <= 0xFFFF_FFFF:
        return _pack_u32(TAG_U32, value)
    return _pack_u64(TAG_U64, value)


def zigzag(value: int) -> bytes:
    """Return the encoding of a signed `value` (i64): small magnitudes take few bytes, whatever the sign."""
    return varint(value << 1 if value >= 0 else ~(value << 1))


def text(value: str) -> bytes:
    """Return length and UTF-8 bytes of `value`."""
    return blob(value.encode())


def blob(value: bytes) -> bytes:
    """Return length and bytes of `value`."""
    return varint(len(value)) + value


def optional_blob(value: bytes | None) -> bytes:
    """Return `00` for None, else `01`, length and bytes."""
    return b"\0" if value is None else b"\1" + varint(len(value)) + value


def boolean(value: bool) -> bytes:
    """Return `00` or `01`."""
    return b"\1" if value else b"\0"


def read_u64(data: bytes, position: int) -> tuple[int, int]:
    """Read a varint of a 64-bit field.

    Raises:
        TruncatedError: the bytes end inside it.
        InvalidError: a 128-bit or reserved tag.
    """
    try:
        tag = data[position]
        if tag < TAG_U16:
            return tag, position + 1
        if tag == TAG_U16:
            return _u16_at(data, position + 1)[0], position + 3
        if tag == TAG_U32:
            return _u32_at(data, position + 1)[0], position + 5
        if tag == TAG_U64:
            return _u64_at(data, position + 1)[0], position + 9
    except (IndexError, struct.error) as error:
        raise TruncatedError(f"an integer at {position} is cut") from error
    raise InvalidError(f"tag {tag:#x} at {position} is wider than the field")


def read_u32(data: bytes, position: int) -> tuple[int, int]:
    """Read a varint of a 32-bit field; raises as `read_u64`, and InvalidError for a 64-bit tag."""
    if data[position : position + 1] == b"\xfd":
        raise InvalidError(f"a 64-bit integer at {position} where 32 bits belong")
    return read_u64(data, position)


def read_i64(data: bytes, position: int) -> tuple[int, int]:
    """Read a zigzag integer; raises as `read_u64`."""
    raw, position = read_u64(data, position)
    return (raw >> 1) ^ -(raw & 1), position


def read_blob(data: bytes, position: int) -> tuple[bytes, int]:
    """Read length and bytes; raises as `read_u64`."""
    length, start = read_u64(data, position)
    end = start + length
    if end > len(data):
        raise TruncatedError(f"{length} bytes announced at {position}, {len(data) - start} present")
    return data[start:end], end


def read_text(data: bytes, position: int) -> tuple[str, int]:
    """Read a string; raises as `read_u64`, and InvalidError if it is not UTF-8."""
    raw, end = read_blob(data, position)
    try:
        return raw.decode(), end
    except UnicodeDecodeError as error:
        raise InvalidError(f"the string at {position} is not UTF-8") from error


def read_bool(data: bytes, position: int) -> tuple[bool, int]:
    """Read a bool.

    Raises:
        TruncatedError: no byte left.
        InvalidError: neither 0 nor 1.
    """
    if position >= len(data):
        raise TruncatedError(f"no byte at {position}")
    if data[position] > 1:
        raise InvalidError(f"{data[position]} at {position} is neither 0 nor 1")
    return data[position] == 1, position + 1


def read_optional_blob(data: bytes, position: int) -> tuple[bytes | None, int]:
    """Read an option of bytes; raises as `read_bool` and `read_blob`."""
    present, position = read_bool(data, position)
    return read_blob(data, position) if present else (None, position)
