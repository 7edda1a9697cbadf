"""The wire of the original system, byte for byte: every golden envelope decodes to what it says, or is refused."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from wavekv.core.codec.envelope import decode_envelope, encode_envelope, pack, unpack
from wavekv.core.messages import Envelope
from wavekv.core.types import Entry
from wavekv.errors import BadEnvelope

VECTORS = Path(__file__).parents[2] / "vectors"
WIRE_MAX, INFLATED_MAX = 16 << 20, 128 << 20


def cases(folder: str, pattern: str) -> list[Any]:
    found = sorted((VECTORS / folder).glob(pattern))
    assert found
    return [pytest.param(path, id=path.stem) for path in found]


def as_json(envelope: Envelope) -> dict[str, Any]:
    """Return an envelope as the golden files spell it."""
    page = envelope.page
    return {
        "version": envelope.version,
        "sender_id": envelope.sender_id,
        "sender_uuid": envelope.sender_uuid.hex(),
        "acks": {str(origin): seq for origin, seq in envelope.acks.items()},
        "entries": [entry_as_json(entry) for entry in envelope.entries],
        "digest": None if envelope.digest is None else envelope.digest.hex(),
        "page": None if page is None else {"cursor": list(page.cursor), "last": page.last},
        "resume_from": None if envelope.resume_from is None else list(envelope.resume_from),
        "reset_acks": envelope.reset_acks,
        "push_only": envelope.push_only,
    }


def entry_as_json(entry: Entry) -> dict[str, Any]:
    value: Any = None if entry.value is None else entry.value.hex()
    if entry.value is not None and len(entry.value) == 70_000:
        value = {"len": 70_000, "sha256": hashlib.sha256(entry.value).hexdigest()}
    return {"key": entry.key, "node": entry.origin, "seq": entry.seq, "ts": entry.timestamp, "value": value}


@pytest.mark.parametrize("path", cases("envelopes", "*.json"))
def test_a_golden_envelope_decodes_to_its_content_or_is_refused(path: Path) -> None:
    expected = json.loads(path.read_text())
    packed = path.with_suffix(".msgpack").read_bytes()
    if expected["decodes"]:
        assert as_json(decode_envelope(packed)) == expected["env"]
        assert as_json(unpack(path.with_suffix(".msgpack.gz").read_bytes(), WIRE_MAX, INFLATED_MAX)) == expected["env"]
    else:
        with pytest.raises(BadEnvelope):
            decode_envelope(packed)


@pytest.mark.parametrize("path", cases("captured", "*.json"))
def test_a_captured_message_decodes_to_its_content(path: Path) -> None:
    body = path.with_suffix(".msgpack.gz").read_bytes()
    assert as_json(unpack(body, WIRE_MAX, INFLATED_MAX)) == json.loads(path.read_text())["env"]


@pytest.mark.parametrize("path", cases("envelopes", "crate-*.msgpack") + cases("captured", "*.msgpack"))
def test_a_message_of_the_crate_is_reproduced_byte_for_byte(path: Path) -> None:
    packed = path.read_bytes()
    envelope = decode_envelope(packed)
    assert encode_envelope(envelope) == packed
    assert gzip.decompress(pack(envelope)) == packed


def test_the_documented_example_has_its_documented_bytes() -> None:
    envelope = Envelope(
        sender_id=2, sender_uuid=b"\xaa\x01", acks={1: 5}, entries=(Entry("a", b"1", 1_700_000_000_000, 2, 7),)
    )
    assert encode_envelope(envelope).hex() == (
        "8aa776657273696f6e01a973656e6465725f696402ab73656e6465725f7575696492ccaa01a461636b73810105a7656e74726965739183"
        "a36b6579a161a576616c7565c40131a46d65746183a46e6f646502a373657107a974696d657374616d70cf0000018bcfe56800a6646967"
        "657374c0a470616765c0ab726573756d655f66726f6dc0aa72657365745f61636b73c2a9707573685f6f6e6c79c2"
    )
