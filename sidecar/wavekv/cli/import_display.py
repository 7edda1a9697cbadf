"""What a person sees of an import: a bar on a terminal, else a plain line every few seconds, and the summary.

All of it goes to stderr; stdout belongs to the summary as JSON.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from wavekv.cli.import_ledger import ALREADY_THERE, EXPIRED, IMPORTED, REFUSED, SUPERSEDED, Ledger
from wavekv.cli.import_reader import Refusal

LINE_SECONDS = 5.0
FRAME_SECONDS = 0.25


async def show_progress(ledger: Ledger, position: Callable[[], int], size: int | None) -> None:
    """Show how far the import is until cancelled; `position` and `size` are bytes of the input."""
    loop = asyncio.get_running_loop()
    began, already = loop.time(), ledger.done
    if not sys.stderr.isatty():
        while True:
            await asyncio.sleep(LINE_SECONDS)
            rate = (ledger.done - already) / (loop.time() - began)
            click.echo(f"wavekv: {ledger.done:,} records done, {rate:,.0f}/s", err=True)
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=size)
        while True:
            rate = (ledger.done - already) / max(loop.time() - began, 0.001)
            bar.update(task, completed=position(), description=f"{ledger.done:,} records, {rate:,.0f}/s", refresh=True)
            await asyncio.sleep(FRAME_SECONDS)


def show_refusal(what: str, refusal: Refusal) -> None:
    """Show one refused record; `what` is counted in the input, lines or records."""
    click.echo(f"wavekv: {what} {refusal.line} refused: {refusal.detail} [{refusal.code}]", err=True)


def summary(counts: Mapping[str, int], done: int, resumed_at: int, seconds: float, complete: bool) -> dict[str, Any]:
    """Return the summary; counts are of the whole input, seconds and rate of this run."""
    refused = {name.removeprefix(REFUSED): count for name, count in counts.items() if name.startswith(REFUSED)}
    return {
        "complete": complete,
        "read": done,
        "imported": counts.get(IMPORTED, 0),
        "already_there": counts.get(ALREADY_THERE, 0),
        "superseded": counts.get(SUPERSEDED, 0),
        "expired": counts.get(EXPIRED, 0),
        "skipped": {"blank": counts.get("blank", 0), "comment": counts.get("comment", 0)},
        "refused": refused,
        "resumed_at": resumed_at,
        "seconds": round(seconds, 3),
        "rate": round((done - resumed_at) / seconds) if seconds > 0 else 0,
    }


def summary_text(facts: Mapping[str, Any]) -> str:
    """Return the summary as lines for people."""
    skipped, refused = facts["skipped"], facts["refused"]
    lines = [
        f"read {facts['read']:,}" + (f" (resumed at {facts['resumed_at']:,})" if facts["resumed_at"] else ""),
        f"imported {facts['imported']:,}",
        f"already there {facts['already_there']:,}",
        f"skipped {skipped['blank']:,} blank, {skipped['comment']:,} comment",
        f"refused {sum(refused.values()):,}" + "".join(f"; {count:,} {code}" for code, count in refused.items()),
        f"in {facts['seconds']:.1f} s, {facts['rate']:,} records read/s",
    ]
    if facts["superseded"]:
        lines.insert(3, f"superseded by a later record {facts['superseded']:,}")
    if facts["expired"]:
        lines.insert(3, f"expired before they could be stored {facts['expired']:,}")
    return "\n".join(lines)
