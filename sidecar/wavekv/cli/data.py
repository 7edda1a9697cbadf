"""The commands on single keys: `get`, `put`, `delete` and `list`.

Values go to stdout as the bytes they are; remarks go to stderr, so that a pipe gets data alone.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from wavekv.cli.client import Client, Item
from wavekv.cli.errors import RefusedByMember
from wavekv.cli.interruptible import run_until_interrupted
from wavekv.cli.records import expiry, json_line
from wavekv.cli.target import Target, of_store, targeted
from wavekv.cli.waiting import Waits, of_read, of_write
from wavekv.config import Limits
from wavekv.errors import PreconditionFailed, UsageError, ValueTooLarge
from wavekv.http_api.values import one_line

SHOWN_BYTES_MAX: Final = 1024
"""Bytes of one value that a terminal is shown where it would be flooded; a pipe always gets all."""


def as_json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@click.command()
@click.argument("key")
@of_read
@as_json_option
@of_store
@targeted
def get(*, target: Target, key: str, as_json: bool, ephemeral: bool, waits: Waits) -> None:
    """Print the value of KEY, byte for byte and without a newline; exit code 1 when there is none."""

    async def ask() -> None:
        async with Client(target, ephemeral=ephemeral, waits=waits) as client:
            found = await client.get(key)
        if as_json:
            click.echo(json_line(key, found.value, etag=found.etag, **expiry(found.expires_at)))
        elif sys.stdout.isatty() and not _is_text(found.value):
            click.echo(visible_value(found.value, SHOWN_BYTES_MAX))
            click.echo(
                f"wavekv: the value has {len(found.value)} bytes that are no text, shown escaped; "
                "send them to a file or a pipe to have them as they are",
                err=True,
            )
        else:
            click.echo(found.value, nl=False)

    run_until_interrupted(ask())


@click.command()
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", type=click.Path(path_type=Path), help="Take the value from this file.")
@click.option("--if-absent", is_flag=True, help="Only if the key holds no value.")
@click.option("--if-match", metavar="ETAG", help="Only over the value with this entity tag, as get --json shows it.")
@click.option(
    "--ttl",
    metavar="SECONDS",
    help="Expire after this many seconds, or `keep` the expiry that is there.  [default: never]",
)
@of_write
@as_json_option
@of_store
@targeted
def put(
    *,
    target: Target,
    key: str,
    value: str | None,
    file: Path | None,
    if_absent: bool,
    if_match: str | None,
    ttl: str | None,
    as_json: bool,
    ephemeral: bool,
    waits: Waits,
) -> None:
    """Store VALUE, the content of --file, or with - what comes on stdin; durable when the command returns."""
    content = _content(value, file)
    conditions = {"If-None-Match": "*"} if if_absent else {}
    if if_match is not None:
        conditions["If-Match"] = f'"{if_match}"'

    async def ask() -> None:
        async with Client(target, ephemeral=ephemeral, waits=waits) as client:
            try:
                stored = await client.put(key, content, conditions, ttl)
            except RefusedByMember as error:
                if not if_absent or if_match is not None or error.answer_code != PreconditionFailed.code:
                    raise
                detail = f"{visible(key)} holds a value already (etag {error.etag})"
                raise RefusedByMember(error.answer_status, error.answer_code, detail, error.etag) from error
        if as_json:
            click.echo(one_line({"key": key, **stored._asdict()}))
        else:
            click.echo(f"{'created' if stored.created else 'replaced'} {visible(key)} ({len(content)} bytes)")

    run_until_interrupted(ask())


def _content(value: str | None, file: Path | None) -> bytes:
    if (value is None) == (file is None):
        raise UsageError("give the value once: as VALUE, with --file, or as - to read stdin")
    value_bytes_max = Limits().value_bytes_max
    # One byte more tells a value that is too long from the longest, without reading all of it.
    content = _read(value, file, value_bytes_max + 1)
    if len(content) > value_bytes_max:
        raise ValueTooLarge(f"the value is longer than {value_bytes_max} bytes, the most a member takes")
    return content


def _read(value: str | None, file: Path | None, count_max: int) -> bytes:
    if file is not None:
        try:
            with file.open("rb") as opened:
                return opened.read(count_max)
        except OSError as error:
            raise UsageError(f"--file {file}: {error.strerror}") from error
    assert value is not None, "one of the two was given"
    if value != "-":
        return os.fsencode(value)
    if sys.stdin is None:
        raise UsageError("stdin is closed; feed it the value")
    try:
        return sys.stdin.buffer.read(count_max)
    except OSError as error:
        raise UsageError(f"stdin cannot be read: {error.strerror}") from error


@click.command()
@click.argument("key")
@of_write
@as_json_option
@of_store
@targeted
def delete(*, target: Target, key: str, as_json: bool, ephemeral: bool, waits: Waits) -> None:
    """Delete KEY; exit code 1 when there is none."""

    async def ask() -> None:
        async with Client(target, ephemeral=ephemeral, waits=waits) as client:
            left = await client.delete(key)
        if as_json:
            click.echo(one_line({"key": key, "etag": left.etag, "session": left.session}))
        else:
            click.echo(f"deleted {visible(key)}")

    run_until_interrupted(ask())


@click.command("list")
@click.option("--prefix", default="", help="Keys that begin with this.")
@click.option("--after", help="Keys that sort behind this one.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Entries at most.")
@click.option("--all", "everything", is_flag=True, help="All of them, whatever the limit.")
@click.option("--keys-only", is_flag=True, help="No values.")
@of_read
@as_json_option
@of_store
@targeted
def list_keys(
    *,
    target: Target,
    prefix: str,
    after: str | None,
    limit: int,
    everything: bool,
    keys_only: bool,
    as_json: bool,
    ephemeral: bool,
    waits: Waits,
) -> None:
    """List entries in key order: a line each, key and value separated by a tab, or one JSON object a line."""
    wanted = None if everything else limit

    async def ask() -> None:
        last: Item | None = None
        count = 0
        async with Client(target, ephemeral=ephemeral, waits=waits) as client:
            # One more than wanted tells whether the list goes on.
            async for item in client.items(prefix, after, None if wanted is None else wanted + 1, keys_only):
                if count == wanted:
                    assert last is not None, "the limit is 1 at least"
                    click.echo(f"wavekv: more keys follow; use --all, or --after {visible(last.key)}", err=True)
                    return
                more = {"etag": item.etag, **expiry(item.expires_at)}
                click.echo(json_line(item.key, item.value, **more) if as_json else _row(item))
                last, count = item, count + 1

    run_until_interrupted(ask())


def _row(item: Item) -> str:
    if item.value is None:
        return visible(item.key)
    return f"{visible(item.key)}\t{visible_value(item.value, SHOWN_BYTES_MAX if sys.stdout.isatty() else None)}"


def _is_text(value: bytes) -> bool:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\n\t\r" for letter in text)


def visible_value(value: bytes, shown_max: int | None = None) -> str:
    """Return `value` on one line, of `shown_max` bytes at most; bytes that are not text are escaped too."""
    if shown_max is not None and len(value) > shown_max:
        return f"{visible_value(value[:shown_max])}... ({len(value)} bytes)"
    return visible(value.decode(errors="backslashreplace"))


def visible(text: str) -> str:
    """Return `text` on one line: what a terminal would act upon is escaped."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
