"""The corpus that is kept: `python -m tests.fuzz.seeds` writes it anew from the golden files and a few by hand.

Small, one file an idea; what a fuzzing engine finds on the way stays in build/fuzz. An input that failed is kept by
hand in tests/fuzz/regressions/TARGET, and is run by `make test` for ever.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgpack

from tests.fakes.log import EVERY_OP, entry
from tests.fuzz.files import NAMES, joined
from wavekv.core.codec.crate_snapshot import CratePeer, encode_crate_snapshot
from wavekv.core.codec.envelope import encode_envelope, pack
from wavekv.core.codec.records import encode_group, encode_header, encode_op
from wavekv.core.messages import Envelope, Listed, Page
from wavekv.core.ops import Set, SetNextSeq
from wavekv.core.types import Entry

FOLDER: Final = Path(__file__).parent
CORPUS: Final = FOLDER / "corpus"
REGRESSIONS: Final = FOLDER / "regressions"
VECTORS: Final = FOLDER.parent / "vectors"
SEED_BYTES_MAX: Final = 4096
"""Longest seed: a fuzzing engine tries short ones far more often."""


def corpus_of(target: str) -> list[bytes]:
    """Return the seeds and regressions of one target, in a fixed order."""
    folders = (CORPUS / target, REGRESSIONS / target)
    return [path.read_bytes() for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]


def _envelopes() -> Iterator[bytes]:
    for path in sorted(VECTORS.glob("captured/*.msgpack")):
        yield b"\0" + path.read_bytes()
    for path in sorted(VECTORS.glob("captured/*.gz"))[:3]:
        yield b"\1" + path.read_bytes()
    full = Envelope(
        sender_id=7,
        sender_uuid=b"u" * 16,
        acks={1: 5, 2: 2**60},
        dots={1: ((7, 9), (11, 11))},
        entries=(entry(1), entry(2, None), entry(3, b"x", 9)),
        page=Page((1, 5), last=False),
        resume_from=(1, 2),
        name="m0",
        inc=5,
        since=0,
        floor=3,
        now_ms=4,
        epoch=2,
        members=("m0", "m1"),
        buckets=tuple(range(64)),
        page_pos=9,
        cluster_id="00000000-0000-4000-8000-000000000001",
        listed=(Listed("a", 1, 2, 3),),
        listed_of=3,
        listed_after="a",
        listed_upto="b",
        takes_block=True,
    )
    yield b"\0" + encode_envelope(full)
    yield b"\1" + pack(full)
    yield b"\0" + encode_envelope(Envelope(sender_id=7, push_only=True, digest=b"d" * 32, reset_acks=True))
    for piece, container in ((b"\x80", b"\xa7entries\xdd"), (b"\x91", b"\xa5later"), (b"\xa0\xc0", b"\xa5later\xdf")):
        head = b"\x81" + container + (b"\0\x0f\0\0" if container[-1] > 0xDC else b"")
        yield bytes((2, len(head), len(piece), 0xE8 + 20)) + head + piece
    entries = b"\x83\xa7version\x01\xa9sender_id\x07\xa7entries\xdc\x10\x00"
    one = msgpack.packb(msgpack.unpackb(encode_envelope(Envelope(sender_id=7, entries=(entry(1),))))["entries"][0])
    yield bytes((2, len(entries), len(one), 0xE8 + 12)) + entries + one


def _http() -> Iterator[bytes]:
    host = b" HTTP/1.1\r\nHost: localhost\r\n"
    get, put = b"GET /v1/kv/a" + host, b"PUT /v1/kv/a" + host
    batch = b'{"operations":[{"op":"put","key":"k","value":"v","ttl":5},{"op":"delete","key":"a","if_match":"*"}]}'
    for text in (
        get + b"\r\n",
        put + b"Content-Length: 3\r\n\r\nabc" + get + b"\r\n",
        put + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"DELETE /v1/kv/a?durability=1&timeout=2" + host + b'If-Match: "1.2.3"\r\n\r\n',
        b"GET /v1/kv?prefix=a&after=b&limit=5&keys_only=true" + host + b"Accept: application/msgpack\r\n\r\n",
        b"POST /v1/batch" + host + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(batch) + batch,
        b"POST /v1/multi-get" + host + b'Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{"keys":["a"]}',
        b"GET /v1/watch?prefix=a&since=x" + host + b"Last-Event-ID: y\r\n\r\n",
        b"GET /v1/explain/a%2Fb" + host + b"\r\nGET /openapi.json" + host + b"\r\n",
        b"HEAD /v1/ephemeral/kv/a" + host + b"Wavekv-Session: 1.2-3\r\nIf-None-Match: *\r\n\r\n",
        b"PUT /v1/kv/a?ttl=0.5" + host + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        b"GET http://localhost/v1/kv/a HTTP/1.0\r\n\r\n",
        b"GET /v1/kv/a" + host + b"Origin: https://attacker.example\r\n\r\n",
    ):
        yield b"\0" + text
        yield b"\xc0" + text


def _resp() -> Iterator[bytes]:
    for text in (
        "PING",
        "SET a b EX 5 NX GET\nGET a\nDEL a b\nMGET a b",
        "HELLO 3\nCLIENT TRACKING ON\nGET a\nSET a c",
        "MULTI\nSET a 1\nEXEC\nWATCH a\nUNWATCH\nDISCARD",
        "SCAN 0 MATCH a* COUNT 10\nKEYS *\nDBSIZE\nINFO\nCOMMAND DOCS\nCONFIG GET *",
        "SUBSCRIBE x\nPSUBSCRIBE y*\nUNSUBSCRIBE",
        "EXPIRE a 5\nPTTL a\nPERSIST a\nEXPIREAT a 1\nTTL a\nMSET a 1 b 2\nSETEX a 1 b\nWAIT 1 1\nSELECT 0\nSTRLEN a",
    ):
        yield b"\0" + b"".join(_command(line.encode().split()) for line in text.splitlines())
        yield b"\xa0" + text.replace("\n", "\r\n").encode() + b"\r\n"


def _command(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _segments() -> Iterator[bytes]:
    for path in sorted(VECTORS.glob("wal/*.wal"))[:8]:
        yield b"\0" + path.read_bytes()
    yield b"\1" + joined([(0, encode_op(SetNextSeq(1))), *((0, encode_op(op)) for op in EVERY_OP)])
    wide = [Set(Entry(f"key/{n:04}", b"v" * 9, 1_700_000_000_000, 0xC0FFEE01, n + 70_000)) for n in range(60)]
    yield b"\1" + joined([(0, encode_op(SetNextSeq(70_000))), *((0, encode_op(op)) for op in wide)])
    yield b"\0" + encode_header(7, 0) + encode_group(wide, 70_000, 70_060)[0]


def _snapshots() -> Iterator[bytes]:
    from tests.fuzz.snapshot_seeds import blocks_of_examples  # noqa: PLC0415 - only where the corpus is made

    for blocks in blocks_of_examples():
        yield b"\1" + joined(blocks)


def _crate_snapshots() -> Iterator[bytes]:
    for path in sorted(VECTORS.glob("dirs/*/data/*.snapshot")):
        yield path.read_bytes()
    entries = [Entry("a", b"1", 1, 1, 1), Entry("b", None, 2, 2, 9)]
    yield b"".join(encode_crate_snapshot(1, 2, entries, {2: CratePeer(9, 1)}, 2))


def _volumes() -> Iterator[bytes]:
    place = {name: number for number, name in enumerate(NAMES)}
    identity = {"format": 2, "node_id": 7, "uuid": "00000000-0000-0000-0000-000000000001", "cluster_id": None}
    born = json.dumps({**identity, "boot_count": 1, "created_at": 0}).encode()
    log = b"\1" + joined([(0, encode_op(SetNextSeq(1))), *((0, encode_op(op)) for op in EVERY_OP)])
    yield joined([(place["IDENTITY"], born), (place["00000001.wal"], log)])
    yield joined([(place["IDENTITY"], born), (place["00000002.wal"], log), (place["RESERVE"], b"")])
    for snapshot in _snapshots():
        yield joined([(place["IDENTITY"], born), (place["00000001.snapshot"], snapshot), (place["00000002.wal"], log)])
    plan = b'{"segment": 1, "valid_end": 0, "cause": "x"}'
    yield joined([(place["IDENTITY"], born), (place["00000001.wal"], log), (place["quarantine/0001/plan.json"], plan)])
    for folder in sorted((VECTORS / "dirs").iterdir())[:3]:
        files = [path for path in sorted((folder / "data").glob("node_1.*")) if path.stat().st_size < 2000]
        yield joined([(place[path.name], path.read_bytes()) for path in files])


def _memberships() -> Iterator[bytes]:
    whole = {
        "cluster_id": "00000000-0000-4000-8000-000000000001",
        "epoch": 3,
        "bootstrap": False,
        "members": ["demo-0", "demo-1"],
        "admitted": {"demo-0": 1, "demo-1": 3},
        "peer_url": "https://{name}.demo-peers.default.svc:7072",
        "inferred": True,
    }
    yield json.dumps(whole).encode()
    yield b'{"epoch": 1, "members": ["a"]}'
    yield b"[" * 3000


def _imports() -> Iterator[bytes]:
    yield b"\0" + b'{"key": "a", "value": "b", "ttl": 5}\n\n{"key": "c", "value_base64": "AA=="}\n'
    yield b'\1key,value\na,b\n"c, d","e\nf"\n'
    yield b"\2// a comment\nexample.org\n\n*.example\n\xef\xbb\xbf\n"


MAKERS: Final = {
    "envelope": _envelopes,
    "http": _http,
    "resp": _resp,
    "segment": _segments,
    "snapshot": _snapshots,
    "crate_snapshot": _crate_snapshots,
    "volume": _volumes,
    "membership": _memberships,
    "session_token": lambda: iter((b"1.2-3", b"1.2,2.5-9", b"4294967295.18446744073709551615")),
    "import_file": _imports,
    "template": lambda: iter((bytes(range(64)), bytes(range(1, 255, 3)), b"\1\1\1\4\1\1\1\1\1\1\1\1")),
}


def main() -> None:
    """Write the corpus."""
    for target, make in MAKERS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for number, seed in enumerate(seed for seed in make() if len(seed) <= SEED_BYTES_MAX):
            (folder / f"{number:03}").write_bytes(seed)


if __name__ == "__main__":
    main()
