"""Which member a client command talks to: --url or --socket, or the variables an application finds in its pod.

A flag beats a variable; of two variables the socket wins, because file permissions guard it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click

from wavekv.config import Limits
from wavekv.core.types import parse_key
from wavekv.errors import InvalidKey, UsageError

_BYTES = frozenset({"value", "file", "data_dir"})
"""What may be any bytes: a value, and the names of files."""

DEFAULT_URL = "http://127.0.0.1:7070"


@dataclass(frozen=True, slots=True)
class Target:
    """A member's data plane: at host and port, or behind a unix socket."""

    host: str
    port: int
    socket: Path | None = None

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else f"http://{self.authority}"

    @property
    def authority(self) -> str:
        """The Host header; behind a socket any name does."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def target_from(url: str | None, socket: Path | None) -> Target:
    """Return the target; without any, the default address.

    Raises:
        UsageError: both given, or a URL that is not http://HOST[:PORT].
    """
    if url is not None and socket is not None:
        raise UsageError("--url and --socket exclude each other; give one")
    if socket is not None:
        return Target("localhost", 80, socket.absolute())
    try:
        parts = urlsplit(url or DEFAULT_URL)
        port = 80 if parts.port is None else parts.port
    except ValueError as error:
        raise UsageError(f"--url {url!r}: {error}; for example {DEFAULT_URL}") from error
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise UsageError(f"--url {url!r} is not http://HOST:PORT; for example {DEFAULT_URL}")
    return Target(parts.hostname, port)


def targeted(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the target options and pass it the `target` they name."""

    def run(url: str | None, socket: Path | None, **rest: Any) -> Any:
        if url is None and socket is None:
            at = os.environ.get("WAVEKV_SOCKET")
            url, socket = (None, Path(at)) if at else (os.environ.get("WAVEKV_URL") or None, None)
        for name, given in {"url": url, **rest}.items():
            if name not in _BYTES:
                refuse_bytes(name, given)
        return command(target=target_from(url, socket), **rest)

    run = update_wrapper(run, command)
    socket_type = click.Path(path_type=Path)
    run = click.option("--socket", type=socket_type, help="The member's unix socket.  [env: WAVEKV_SOCKET]")(run)
    return click.option("--url", help=f"The member's address.  [env: WAVEKV_URL; default: {DEFAULT_URL}]")(run)


def refuse_bytes(name: str, given: Any) -> None:
    """Refuse what was given for `name` where a text in it is not UTF-8: on its way it would become another.

    Raises:
        UsageError: names the option.
    """
    for text in given if isinstance(given, tuple) else (given,):
        if isinstance(text, str):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                shown = os.fsencode(text)[:80]
                raise UsageError(f"what is given for {name} is not UTF-8: {shown!r}; nothing was done") from error


def of_store(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option that names the other store."""
    return click.option("--ephemeral", is_flag=True, help="The store that is kept in memory only.")(command)


def key_path(key: str, route: str = "/v1/kv") -> str:
    """Return the path of `key` behind `route` of the HTTP API, percent-encoded.

    Raises:
        InvalidKey: a key that no member would take.
    """
    try:
        raw = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidKey("the key is not UTF-8") from error
    parse_key(raw, Limits().key_bytes_max)
    # A segment of dots alone would be folded away by clients and proxies on its way.
    return route + ("/" + quote(raw, safe="/")).replace("/.", "/%2E")
