"""What is fuzzed: each target takes any bytes, and fails by an exception that no caller expects or by its cost."""

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.fuzz import connections, files, templates
from wavekv.cli.import_reader import Reading, Style
from wavekv.cli.import_units import units
from wavekv.config import Limits
from wavekv.core.codec.crate_snapshot import decode_crate_snapshot
from wavekv.core.codec.envelope import decode_envelope, encode_envelope, unpack
from wavekv.core.session import parse_token
from wavekv.errors import PeerError, RequestError, StorageError, UsageError
from wavekv.runtime.epoch_file import parse_document
from wavekv.volume import parse_json

LIMITS: Final = Limits()


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: as its folder of the corpus.
        run: takes an input; what it costs is bounded.
        prepare: what is made of an input first, at no one's cost.
        words: what its format is full of, for mutations.
        input_bytes_max: longest input that is tried.
        costly: so slow that a test runs few of them.
    """

    name: str
    run: Callable[[bytes], None]
    words: tuple[bytes, ...] = ()
    input_bytes_max: int = 1 << 14
    costly: bool = False
    prepare: Callable[[bytes], bytes] = bytes


def envelope(data: bytes) -> None:
    """Decode a message, compressed or not; one that is taken can be written again."""
    try:
        if data[:1] == b"\1":
            message = unpack(data[1:], LIMITS.wire_bytes_max, LIMITS.inflated_bytes_max)
        else:
            message = decode_envelope(data[1:])
    except PeerError:
        return
    again = decode_envelope(encode_envelope(message))
    assert encode_envelope(again) == encode_envelope(message), "a message changes when it is passed on"


def blown_up(data: bytes) -> bytes:
    """Return the input of `envelope`: where the first byte is 2, a message in which a piece of `data` is repeated.

    It grows up to the size that a message may have. The next three bytes say where the piece begins, how long it is,
    and how often it comes, as a power of two.
    """
    if data[:1] != b"\2":
        return data
    data = data[1:]
    begin, length, power, rest = data[0:1], data[1:2], data[2:3], data[3:]
    at = int.from_bytes(begin, "big") % (len(rest) + 1)
    piece = rest[at : at + max(1, int.from_bytes(length, "big"))]
    doublings = int.from_bytes(power, "big")
    doublings = doublings - 0xE8 if doublings > 0xF0 else doublings % 12  # the longest take a thousand times the others
    times = min(1 << doublings, LIMITS.inflated_bytes_max // max(1, len(piece)))
    return b"\1" + gzip.compress((rest[:at] + piece * times + rest[at + len(piece) :])[: LIMITS.inflated_bytes_max], 1)


_SESSIONS: Final = connections.Sessions()


def http(data: bytes) -> None:
    """Send a session to the HTTP plane in its fast and in its slow way."""
    parts = connections.parts_of(data)
    answers = []
    for fast in (True, False):
        said = _SESSIONS.run(lambda fast=fast: connections.http_server(fast=fast), parts)  # type: ignore[misc]
        assert b"HTTP/1.1 500" not in said, "an internal error"
        answers.append([line for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")])
    assert answers[0] == answers[1], "the two ways answer differently"


def resp(data: bytes) -> None:
    """Send a session to the Redis plane."""
    said = _SESSIONS.run(connections.resp_server, connections.parts_of(data))
    assert b"-ERR internal" not in said, "an internal error"


def crate_snapshot(data: bytes) -> None:
    """Decode a snapshot of the original system."""
    try:
        decode_crate_snapshot(data, "node_1.snapshot", 1)
    except StorageError:
        return


def membership(data: bytes) -> None:
    """Read a membership document."""
    try:
        parsed = parse_json(data)
    except ValueError:
        return
    try:
        document = parse_document(parsed, "document")
    except UsageError:
        return
    assert document.epoch.members, "a membership of nobody was taken"


def session_token(data: bytes) -> None:
    """Read a session token."""
    try:
        parse_token(data.decode("latin-1"), bytes_max=LIMITS.session_bytes_max, ranges_max=LIMITS.session_ranges_max)
    except RequestError:
        return


IMPORT_STYLES: Final[tuple[Style, ...]] = ("jsonl", "csv", "lines", "json", "consul", "etcd", "env", "yaml")
"""The first three in this order: seeds of the corpus begin with their numbers."""


def import_file(data: bytes) -> None:
    """Read an import in each format; each unit has its number, and no record is over a bound."""
    style = IMPORT_STYLES[data[0] % len(IMPORT_STYLES) if data else 0]
    try:
        for unit in units(io.BytesIO(data[1:]), Reading(style)):
            assert unit.line >= 1
    except UsageError:
        return


MSGPACK: Final = (
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x91", b"\x80", b"\x90", b"\xc0", b"\xc1", b"\xc7\x01\x05x",
    b"\xda\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\xd7\xff" + bytes(8),
    b"\xa7entries", b"\xa4acks", b"\xa4dots", b"\xa5block", b"\xa4list", b"\xa4page", b"\xa7members", b"\xa5epoch",
    b"\xa4name", b"\xa3inc", b"\xa5since", b"\xa7version", b"\xa9sender_id", b"\xabsender_uuid", b"\xa8requires",
)  # fmt: skip
HTTP_WORDS: Final = (
    b"GET /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n", b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\n", b"\r\n\r\n",
    b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"If-Match: ", b"If-None-Match: *\r\n", b"?ttl=1", b"%00",
    b"?prefix=", b"&limit=", b"Expect: 100-continue\r\n", b"Accept: application/msgpack\r\n", b"DELETE ", b"HEAD ",
    b"/v1/batch", b"/v1/multi-get", b"/v1/watch", b"/v1/explain/", b"/v1/ephemeral/kv/", b"Wavekv-Session: ", b"%",
    b'{"operations":[{"op":"put","key":"k","value":"v"}]}', b'"', b"Content-Type: application/json\r\n", b"HTTP/1.0",
)  # fmt: skip
_COMMANDS: Final = (
    b"GET SET DEL EXISTS MGET MSET TTL PTTL EXPIRE PERSIST SCAN KEYS MULTI EXEC WATCH SUBSCRIBE CLIENT TRACKING ON "
    b"DBSIZE INFO COMMAND SELECT 0 CONFIG HELLO 3 PING ECHO EX PX NX XX KEEPTTL MATCH COUNT * 18446744073709551616"
).split()
RESP_WORDS: Final = (
    *(b"$%d\r\n%s\r\n" % (len(word), word) for word in _COMMANDS),
    *(b"*%d\r\n" % count for count in (1, 2, 3, 1048576, -1)),
    *(b"$-1\r\n", b"$1000000\r\n", b"PING\r\n", b'"\r\n'),
)
JSON_WORDS: Final = (
    b"[", b"{", b"1e999", b"-0", b"null", b"true", b'"\\ud800"', b'"epoch":', b'"members":', b'"admitted":', b"9" * 400,
    b'"key":', b'"value":', b'"value_base64":', b'"ttl":', b'"peer_url":"http://{name}"', b'"cluster_id":',
    b"\xef\xbb\xbf",
)  # fmt: skip

TARGETS: Final = {
    target.name: target
    for target in (
        Target("envelope", envelope, MSGPACK, 1 << 16, prepare=blown_up),
        Target("http", http, HTTP_WORDS, 1 << 13, costly=True),
        Target("resp", resp, RESP_WORDS, 1 << 13, costly=True),
        Target("segment", files.read_segment, (b"\x06", b"\xfc", b"\xfd", b"\x0a", b"\xff\xff\xff\x7f")),
        Target("snapshot", files.read_snapshot, MSGPACK, costly=True),
        Target("crate_snapshot", crate_snapshot, MSGPACK),
        Target("volume", files.open_volume, (*MSGPACK, *JSON_WORDS), costly=True),
        Target("membership", membership, JSON_WORDS),
        Target("session_token", session_token),
        Target("import_file", import_file, JSON_WORDS),
        Target("template", templates.check, (), 512),
    )
}
