"""Where the client commands look for a member, and how keys become paths."""

from pathlib import Path

import pytest

from wavekv.cli.target import Target, key_path, target_from
from wavekv.errors import InvalidKey, UsageError


def test_the_default_is_the_loopback_port() -> None:
    assert target_from(None, None) == Target("127.0.0.1", 7070)


def test_a_url_names_host_and_port() -> None:
    assert str(target_from("http://[::1]:7/", None)) == "http://[::1]:7"
    assert target_from("http://h", None).port == 80


@pytest.mark.parametrize(
    "url", ["127.0.0.1:7070", "https://h", "http://", "http://h:70000", "http://h/x", "http://h?x"]
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        target_from(url, None)


def test_url_and_socket_together_are_refused() -> None:
    with pytest.raises(UsageError, match="exclude"):
        target_from("http://h", Path("s"))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/b", "/v1/kv/a/b"),
        ("a b?#%", "/v1/kv/a%20b%3F%23%25"),
        ("ä", "/v1/kv/%C3%A4"),
        ("..", "/v1/kv/%2E."),
        ("a/./b", "/v1/kv/a/%2E/b"),
        ("a//b", "/v1/kv/a//b"),
        ("/", "/v1/kv//"),
    ],
)
def test_a_key_is_percent_encoded_so_that_nothing_folds_it(key: str, path: str) -> None:
    assert key_path(key) == path


@pytest.mark.parametrize("key", ["", "k" * 1025, "\udcff"])
def test_a_key_no_member_takes_is_refused_before_asking(key: str) -> None:
    with pytest.raises(InvalidKey):
        key_path(key)
