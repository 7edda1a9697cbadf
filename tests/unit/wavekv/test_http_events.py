"""The text of an event: the same whether it is made at once or in parts, and no part is long to make."""

import base64
import json

import pytest

from wavekv.core.types import Entry
from wavekv.http_api.events import PART_BYTES, is_long, parts
from wavekv.ports import Change

LONGEST = 1 << 20
VALUES = {
    "one part": b"v" * PART_BYTES,
    "a byte more": b"v" * (PART_BYTES + 1),
    "every byte escaped": b"\0" * LONGEST,
    "characters of two bytes": b"v" + "é".encode() * LONGEST,
    "characters of three bytes": "€".encode() * PART_BYTES,
    "characters of four bytes": "v🦊".encode() * PART_BYTES,
    "bytes": b"\xff" + bytes(LONGEST),
    "text that ends in half a character": "é".encode() * PART_BYTES + b"\xc3",
    "quotes and line ends": b'"\\\r\n' * PART_BYTES,
}


def told(change: Change) -> tuple[dict[str, str], dict[str, object]]:
    """Return the fields of the event and its data."""
    text = b"".join(parts(change)).decode()
    assert text.endswith("\n\n")
    assert text.count("\n") == 3 + (change.token is None) * -1 + 1
    fields = dict(line.split(": ", 1) for line in text.rstrip("\n").split("\n"))
    return fields, json.loads(fields["data"])


@pytest.mark.parametrize("expires_at", [None, 5000])
@pytest.mark.parametrize("token", [None, "node-1-7"])
@pytest.mark.parametrize("name", VALUES)
def test_a_long_value_reads_as_a_short_one_does(name: str, token: str | None, expires_at: int | None) -> None:
    value = VALUES[name]
    entry = Entry('a "key"\n', value, 1000, 7, 9, expires_at)
    fields, data = told(Change("put", entry.key, entry, token))
    expected: dict[str, object] = {"key": entry.key, "etag": entry.etag}
    try:
        expected["value"] = value.decode()
    except UnicodeDecodeError:
        expected["value_base64"] = base64.b64encode(value).decode()
    if expires_at is not None:
        expected["expires_at"] = expires_at
    assert data == expected
    assert (fields["event"], fields.get("id")) == ("put", token)


@pytest.mark.parametrize("name", VALUES)
def test_no_part_has_the_text_of_more_than_a_few_kib_of_value(name: str) -> None:
    entry = Entry("k", VALUES[name], 1000, 7, 9)
    change = Change("put", "k", entry, None)
    made = [len(part) for part in parts(change)]
    assert max(made) <= 6 * PART_BYTES + 200
    assert is_long(change) == (len(VALUES[name]) > PART_BYTES)
    assert (len(made) > 1) == is_long(change)


def test_what_has_no_value_to_tell_is_one_part() -> None:
    entry = Entry("k", bytes(LONGEST), 1000, 7, 9)
    for change in (
        Change("expire", "k", entry, None),
        Change("delete", "k", None, "t"),
        Change("synced", "", None, "t"),
    ):
        assert not is_long(change)
        assert len(list(parts(change))) == 1
