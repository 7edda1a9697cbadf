"""Addresses to listen on: what is read, and what is refused."""

import pytest

from wavekv.config import Address, parse_address
from wavekv.errors import UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7070", Address("127.0.0.1", 7070)),
        ("[::1]:7070", Address("::1", 7070)),
        (":7073", Address("", 7073)),
        ("localhost:0", Address("localhost", 0)),
        ("h:65535", Address("h", 65535)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["127.0.0.1", "h:", "h:65536", "h:-1", "h:x", "::1:7070", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:7070", "[::1]:7070"])
def test_an_address_prints_as_it_is_written(text: str) -> None:
    assert str(parse_address(text)) == text
