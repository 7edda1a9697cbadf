"""The bytes of replies, in RESP2 and RESP3, and the one form in which our errors reach Redis clients.

`-ERR code: detail`: every client library knows ERR, and the code is the same stable one that HTTP answers carry.
"""

from typing import Final

from wavekv.errors import WaveKVError

OK: Final = b"+OK\r\n"
PONG: Final = b"+PONG\r\n"


def bulk(value: bytes) -> bytes:
    """Return a binary-safe string."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def integer(number: int) -> bytes:
    """Return an integer."""
    return b":%d\r\n" % number


def null(proto: int) -> bytes:
    """Return the absence of a value."""
    return b"_\r\n" if proto >= 3 else b"$-1\r\n"


def null_array(proto: int) -> bytes:
    """Return the absence of an array."""
    return b"_\r\n" if proto >= 3 else b"*-1\r\n"


def array(items: list[bytes]) -> bytes:
    """Return an array of items that are encoded already."""
    return b"".join((b"*%d\r\n" % len(items), *items))


def mapping(pairs: dict[bytes, bytes], proto: int) -> bytes:
    """Return a map from names to values that are encoded already; in RESP2 it is a flat array."""
    head = b"%%%d\r\n" % len(pairs) if proto >= 3 else b"*%d\r\n" % (2 * len(pairs))
    return head + b"".join([bulk(name) + value for name, value in pairs.items()])


def error(text: str) -> bytes:
    """Return an error; line ends inside it would end the reply, so they become spaces."""
    line = text.replace("\r", " ").replace("\n", " ")
    return b"-%b\r\n" % line.encode("utf-8", "surrogateescape")


def refusal(refused: WaveKVError) -> bytes:
    """Return one of our errors."""
    return error(f"ERR {refused.code}: {refused.detail}")


def set_of(items: list[bytes], proto: int) -> bytes:
    """Return a set of items that are encoded already; in RESP2 it is an array."""
    return b"".join((b"~%d\r\n" % len(items) if proto >= 3 else b"*%d\r\n" % len(items), *items))


def push(words: list[bytes], proto: int) -> bytes:
    """Return what a client is told without having asked for it just now."""
    head = b">%d\r\n" % len(words) if proto >= 3 else b"*%d\r\n" % len(words)
    return head + b"".join(map(bulk, words))
