"""`wavekv explain`: how a key came to hold what it holds, in sentences; `--json` passes the member's answer on."""

import json
from collections.abc import Mapping
from typing import Any

import click

from wavekv.cli.client import Client
from wavekv.cli.data import as_json_option, visible
from wavekv.cli.interruptible import run_until_interrupted
from wavekv.cli.status import field, local_time
from wavekv.cli.target import Target, of_store, targeted
from wavekv.cli.waiting import Waits, of_read


@click.command()
@click.argument("key")
@of_read
@as_json_option
@of_store
@targeted
def explain(*, target: Target, key: str, as_json: bool, ephemeral: bool, waits: Waits) -> None:
    """Show how KEY came to hold what it holds: the winner, known losers, and who covers it."""

    async def ask() -> tuple[dict[str, Any], dict[str, Any]]:
        async with Client(target, ephemeral=ephemeral, waits=waits) as client:
            found = await client.explain(key)
            return found, {} if as_json else await client.status()

    found, status = run_until_interrupted(ask())
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        click.echo("\n".join(sentences(key, found, status)))


def sentences(key: str, found: Mapping[str, Any], status: Mapping[str, Any]) -> list[str]:
    """Return what a member's answer says of `key`; `status` is that member's, for the names in it."""
    held, losers = field(found, "held"), field(found, "losers")
    lines = [f"{visible(key)}: {_state(held)}"]
    if isinstance(held, Mapping):
        lines.append(f"  It was written {_when_and_who(str(held.get('etag')), status)}.")
        if isinstance(expires_at := held.get("expires_at"), int):
            lines.append(f"  It expire{'d' if held.get('expired') else 's'} at {local_time(expires_at / 1000)}.")
    for loser in losers if isinstance(losers, list) else []:
        lines += _lost(loser, status)
    return lines + _covered(field(found, "covered_by"))


def _state(held: Any) -> str:
    if not isinstance(held, Mapping):
        return "this member has never heard of it, or has forgotten its delete."
    if held.get("deleted"):
        return "it was deleted, and holds nothing."
    size = held.get("value_bytes")
    return f"it held a value of {size} bytes, which expired." if held.get("expired") else f"it holds {size} bytes."


def _when_and_who(etag: str, status: Mapping[str, Any]) -> str:
    """Return when and by whom the write with this tag (TIMESTAMP.ORIGIN.SEQ) was made, as far as it is known."""
    parts = etag.split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return f"at an unknown time (tag {visible(etag)})"
    mine = field(status, "process", "origin") == int(parts[1])
    other = f"another member or an earlier process, origin {parts[1]}"
    who = f"this member, {field(status, 'name')}" if mine else other
    return f"at {local_time(int(parts[0]) / 1000)} by {who} (tag {etag})"


def _lost(loser: Any, status: Mapping[str, Any]) -> list[str]:
    what = "A delete" if field(loser, "deleted") else f"A write of {field(loser, 'value_bytes')} bytes"
    seen = field(loser, "seen_ms")
    told = f", seen at {local_time(seen / 1000)}" if isinstance(seen, int) else ""
    return [
        f"  {what} was lost: made {_when_and_who(str(field(loser, 'etag')), status)}, it lost to the later stamp",
        f"  {field(loser, 'lost_to')}{told}. Its value is not kept; whoever made it has to write it again.",
    ]


def _covered(covered: Any) -> list[str]:
    if not isinstance(covered, Mapping) or not covered:
        return []
    have = [name for name, has in covered.items() if has]
    lack = [name for name, has in covered.items() if not has]
    lines = [f"  On {', '.join(map(visible, have))} too." if have else "  No other member has reported to have it."]
    if lack:
        names = ", ".join(map(visible, lack))
        lines.append(f"  Not reported by {names} yet; `wavekv status` says whether they are reached.")
    return lines
