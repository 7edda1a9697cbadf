"""The options of commands that may wait for other members: `--session`, `--durability`, `--timeout`."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Final, NamedTuple

import click

from wavekv.config import Limits

_DEFAULT_SECONDS: Final = Limits().wait_ms_default / 1000


class Waits(NamedTuple):
    """What a request waits for: a session to be here, so many members (or `all`) to have a write, and how long (s)."""

    session: str | None = None
    durability: str | None = None
    timeout: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The header fields that say so."""
        return {} if self.session is None else {"Wavekv-Session": self.session}

    @property
    def query(self) -> dict[str, str]:
        """The parameters that say so."""
        given = {"durability": self.durability, "timeout": None if self.timeout is None else f"{self.timeout:.3f}"}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def seconds(self) -> float:
        """How long the member may take before it begins with its own work."""
        waits = self.session is not None or self.durability not in {None, "1"}
        return (_DEFAULT_SECONDS if self.timeout is None else self.timeout) if waits else 0.0


def of_read(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a read, and pass it the `waits` they come to."""
    return _waits(command)


def of_write(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a write, and pass it the `waits` they come to."""
    about = "Return once K members hold it durably, this one included, or all.  [default: 1]"
    return click.option("--durability", metavar="K|all", help=about)(_waits(command))


def _waits(command: Callable[..., Any]) -> Callable[..., Any]:
    def run(session: str | None, timeout: float | None, durability: str | None = None, **rest: Any) -> Any:
        return command(waits=Waits(session, durability, timeout), **rest)

    run = update_wrapper(run, command)
    longest = f"Wait this long at most for other members.  [default: {_DEFAULT_SECONDS:g}]"
    run = click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help=longest)(run)
    about = "Wait until the member has these writes: the session that put --json shows, several joined by commas."
    return click.option("--session", metavar="TOKEN", help=about)(run)
