"""How a local cluster looks: a live table on a terminal, else a line when something changed and every ten seconds."""

import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table

from wavekv.cli.local_plan import MemberPlan
from wavekv.cli.status import convergence, field
from wavekv.cli.supervisor import Supervised

LINE_SECONDS = 10.0


def greeting(members: Sequence[MemberPlan], data_dir: Path) -> str:
    """Return how to use the cluster: write on the first member, read on the last."""
    first, last = members[0], members[-1]
    lines = [
        f"{len(members)} members on this machine; data stays in {data_dir}, logs in {data_dir / 'logs'}",
        f"  put: curl -X PUT --data-binary hello {first.url}/v1/kv/greeting",
        f"  get: curl {last.url}/v1/kv/greeting",
        f"  put: redis-cli -p {first.resp_port} SET greeting hello",
        f"  get: redis-cli -p {last.resp_port} GET greeting",
        "  each member: Redis one port above HTTP, peers two above, metrics three above",
        "  stop: Ctrl-C",
    ]
    return "\n".join(lines)


def state(member: Supervised) -> str:
    """Return what the member is doing, in a word."""
    if member.process is None:
        return "restarting"
    return "starting" if member.status is None else str(field(member.status, "phase") or "up")


def entries(member: Supervised) -> str:
    """Return the number of entries a reader finds."""
    live = field(member.status or {}, "store", "live")
    return "-" if live is None else f"{live:,}"


def lag(member: Supervised) -> str:
    """Return the greatest lag of any peer behind this member, in writes."""
    peers = field(member.status or {}, "peers")
    lags = [field(peer, "lag") for peer in peers] if isinstance(peers, list) else []
    known = [count for count in lags if isinstance(count, int)]
    return f"{max(known):,}" if known else "-"


class Lines:
    """A line about all members when it changed, and every ten seconds."""

    def __init__(self, members: Sequence[Supervised]) -> None:
        self._members = members
        self._last = ""
        self._said_at = 0.0

    def tell(self, text: str) -> None:
        """Print what a person should know."""
        click.echo(text)

    def refresh(self) -> None:
        """Print the line when it is time to."""
        line = "  ".join(
            f"{m.plan.name} {state(m)} entries={entries(m)} lag={lag(m)} converged={convergence(m.status or {})}"
            for m in self._members
        )
        if line != self._last or time.monotonic() - self._said_at >= LINE_SECONDS:
            click.echo(line)
            self._last, self._said_at = line, time.monotonic()

    def close(self) -> None:
        """Nothing to put right."""


class Screen:
    """A table that is redrawn in place."""

    def __init__(self, members: Sequence[Supervised]) -> None:
        self._members = members
        self._console = Console(highlight=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def tell(self, text: str) -> None:
        """Print above the table."""
        self._console.print(text)

    def refresh(self) -> None:
        """Redraw the table."""
        self._live.update(table(self._members), refresh=True)

    def close(self) -> None:
        """Leave the table as it is and give the terminal back."""
        self._live.stop()


def table(members: Sequence[Supervised]) -> Table:
    """Return the table of all members, no wider than 80 columns; the greeting says where their other ports are."""
    drawn = Table("member", "HTTP", "state", "entries", "lag", "converged", "restarts", box=SIMPLE)
    for member in members:
        plan = member.plan
        drawn.add_row(
            plan.name,
            str(plan.port),
            state(member),
            entries(member),
            lag(member),
            convergence(member.status or {}),
            str(member.restarts),
        )
    return drawn
