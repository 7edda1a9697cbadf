"""`wavekv status`: what a member says of itself, for people; `--json` passes its answer on unchanged.

Fields a member does not send (an older version) show as a dash, never as a crash.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console, Group
from rich.table import Table

from wavekv.cli.client import Client
from wavekv.cli.data import visible
from wavekv.cli.interruptible import run_until_interrupted
from wavekv.cli.target import Target, targeted


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the member's answer as JSON.")
@targeted
def status(target: Target, as_json: bool) -> None:
    """Show how a member and its peers are."""

    async def ask() -> dict[str, Any]:
        async with Client(target) as client:
            return await client.status()

    answer = run_until_interrupted(ask())
    if as_json:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        Console(highlight=False, markup=False).print(Group(_facts(answer), *_peer_tables(answer)))


def field(answer: Mapping[str, Any], *path: str) -> Any:
    """Return the value at `path`, or None where the answer lacks a step of it."""
    value: Any = answer
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def convergence(answer: Mapping[str, Any]) -> str:
    """Return whether the member agrees with its peers, in a word."""
    converged = field(answer, "converged")
    return "-" if converged is None else "yes" if converged else "no"


def size(count: Any) -> str:
    """Return a number of bytes in the unit that reads best."""
    if not isinstance(count, int | float):
        return "-"
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def duration(seconds: Any) -> str:
    """Return a length of time in its two largest units."""
    if not isinstance(seconds, int | float):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(index for index, (amount, _) in enumerate(units) if amount)
    return " ".join(f"{amount} {unit}" for amount, unit in units[first : first + 2])


def local_time(seconds: float) -> str:
    """Return a time (seconds since 1970) as the clocks of this machine show it, with its distance from UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(sep=" ", timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s after 1970"


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _milliseconds(value: Any, factor: int, sign: str) -> str:
    return f"{value * factor:{sign}.0f} ms" if isinstance(value, int | float) else "-"


def _facts(answer: Mapping[str, Any]) -> Table:
    def said(*path: str) -> str:
        return _text(field(answer, *path))

    def sized(*path: str) -> str:
        return size(field(answer, *path))

    healing = ["healing"] if field(answer, "healing") else []
    damage = field(answer, "recovery", "damage")
    members = field(answer, "membership", "members")
    count = len(members) if isinstance(members, list) else members
    took = duration(field(answer, "recovery", "seconds"))
    rows: dict[str, list[str]] = {
        "member": [f"{said('name')} (node {field(answer, 'node_id')}, version {said('version')})"],
        "cluster": [said("cluster_id")],
        "phase": [said("phase"), *healing, f"up {duration(field(answer, 'uptime_seconds'))}"],
        "converged": [convergence(answer), *_since(answer)],
        "clock": _clock(answer),
        "entries": [f"{said('store', 'live')} live", f"{said('store', 'entries')} held", sized("store", "bytes")],
        "ephemeral": [f"{said('ephemeral', 'live')} live", sized("ephemeral", "bytes")],
        "watches": [f"{said('watches', 'open')} open", f"{said('watches', 'cut')} cut as slow readers"],
        "log": [
            *(["the volume is full: values are refused"] if field(answer, "disk_full") else []),
            f"{said('log', 'segments')} segments",
            f"{sized('log', 'used_bytes')} used",
            f"{sized('log', 'allocated_bytes')} allocated",
        ],
        "snapshot": _snapshot(answer),
        "recovery": [
            f"{said('recovery', 'snapshot_entries')} entries of a snapshot and {said('recovery', 'records')} records "
            f"in {took}",
            f"damage: {_text(damage or 'none')}",
        ],
        "membership": [f"{_text(count)} members", f"epoch {said('membership', 'epoch')}"],
        "waiting": [
            f"{said('waiting_writes')} writes for the disk",
            f"{said('waiting', 'spreads')} for other members",
            f"{said('waiting', 'sessions')} requests for their session",
        ],
        "refused": [*_counts(field(answer, "refused")), *_last_refused(answer)],
    }
    table = Table.grid(padding=(0, 2))
    for label, parts in rows.items():
        table.add_row(label, ", ".join(parts))
    return table


def _snapshot(answer: Mapping[str, Any]) -> list[str]:
    number = field(answer, "log", "snapshot")
    parts = [f"number {number}, {size(field(answer, 'log', 'snapshot_bytes'))}"] if number else ["none yet"]
    if field(answer, "compaction", "running"):
        parts.append(f"the next one is {100 * (field(answer, 'compaction', 'progress') or 0):.0f} % made")
    error = field(answer, "compaction", "error")
    return [*parts, f"the last try failed: {error}"] if error else parts


def _counts(refused: Any) -> list[str]:
    if isinstance(refused, Mapping):
        return [f"{code} {_text(count)}" for code, count in refused.items() if count] or ["nothing"]
    return [_text(refused)]


def _since(answer: Mapping[str, Any]) -> list[str]:
    since = field(answer, "converged_since")
    if isinstance(since, int | float):
        since = local_time(since)
    return [f"since {since}"] if since is not None else []


def _clock(answer: Mapping[str, Any]) -> list[str]:
    ahead_ms = field(answer, "clock", "ahead_of_peers_ms")
    if not isinstance(ahead_ms, int):
        return ["-"]
    parts = [f"{abs(ahead_ms) / 1000:.1f} s {'behind' if ahead_ms < 0 else 'ahead of'} its peers' median"]
    return [*parts, "too far: writes are refused"] if field(answer, "clock", "ahead") else parts


def _last_refused(answer: Mapping[str, Any]) -> list[str]:
    last = field(answer, "last_refused")
    if not isinstance(last, Mapping):
        return []
    return [f"the last of {_text(field(last, 'sender') or None)}, key {visible(str(field(last, 'key')))}"]


def _peer_tables(answer: Mapping[str, Any]) -> list[Table]:
    peers = field(answer, "peers")
    if not isinstance(peers, list) or not peers:
        return []
    table = Table("peer", "reachable", "heard", "lag", "behind", "arrives", "clock", title="Peers")
    more = Table.grid(padding=(0, 2))
    for peer in peers:
        reachable, heard = field(peer, "reachable"), field(peer, "last_heard_seconds")
        name, error = _text(field(peer, "name")), field(peer, "last_error")
        table.add_row(
            name,
            "-" if reachable is None else "yes" if reachable else "no",
            "never" if heard is None else f"{duration(heard)} ago",
            f"{_text(field(peer, 'lag'))} ({duration(field(peer, 'lag_seconds'))})",
            _text(field(peer, "behind")),
            _milliseconds(field(peer, "propagation_seconds"), 1000, ""),
            _milliseconds(field(peer, "clock_skew_ms"), 1, "+"),
        )
        more.add_row(name, _text(field(peer, "url")) + (f": {visible(str(error))}" if error else ""))
    return [table, more]
