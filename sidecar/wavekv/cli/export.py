"""`wavekv export`: a member's entries as JSON lines, in key order.

It pages through the listing, so a write meanwhile may show or not; each line is one value the key really had. A file
appears under its name only when it is whole.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wavekv.cli.client import Client
from wavekv.cli.crate_export import export_crate
from wavekv.cli.interruptible import run_until_interrupted
from wavekv.cli.records import expiry, json_line
from wavekv.cli.status import field
from wavekv.cli.target import Target, targeted
from wavekv.core.types import U32_MAX
from wavekv.errors import DirectoryUnusable, UsageError


@click.command()
@click.argument("file", default="-")
@click.option("--prefix", default="", help="Keys that begin with this.")
@click.option("--format", "style", type=click.Choice(["jsonl", "crate"]), default="jsonl", show_default=True)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="With --format crate: the stopped member's directory."
)
@click.option(
    "--crate-member",
    "members",
    type=click.IntRange(1, U32_MAX),
    multiple=True,
    help="For --format crate: id of a node that it exchanges with.  [repeatable]",
)
@targeted
def export(
    target: Target, file: str, prefix: str, style: str, *, data_dir: Path | None, members: tuple[int, ...]
) -> None:
    """Write all entries to FILE (- or nothing: stdout), one JSON object a line.

    Each has "key" and "value", or "value_base64" where the value is not UTF-8, and "expires_at" (milliseconds since
    1970) where it expires. `wavekv import` reads it back.

    With --format crate and --data-dir, FILE is a new or empty directory that a node of the original system opens, of
    version 1.0.0 or 2.x; tombstones and acknowledgements are in it.
    """
    if style == "crate":
        if data_dir is None or file == "-" or prefix:
            raise UsageError("--format crate takes a stopped member's --data-dir and a directory to write, no --prefix")
        export_crate(data_dir, Path(file), members)
        return
    if data_dir is not None or members:
        raise UsageError(
            "--data-dir and --crate-member belong to --format crate; JSON lines come from a running member"
        )
    if file == "-":
        run_until_interrupted(_write(target, prefix, sys.stdout.buffer))
        return
    path = Path(file)
    with whole_file(path) as output:
        count = run_until_interrupted(_write(target, prefix, output))
    click.echo(f"{count} entries written to {path}", err=True)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its name, synced, when the block ends well and vanishes when not.

    Raises:
        DirectoryUnusable: the file cannot be written there.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("xb") as output:
            yield output
            output.flush()
            os.fsync(output.fileno())
        draft.replace(path)
    except OSError as error:
        raise DirectoryUnusable(f"{path} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


async def _write(target: Target, prefix: str, output: BinaryIO) -> int:
    count = 0
    async with Client(target) as client:
        total = None if prefix else field(await client.status(), "store", "live")
        with _progress() as progress:
            task = progress.add_task("exporting", total=total)
            async for item in client.items(prefix):
                assert item.value is not None, "values were asked for"
                output.write(json_line(item.key, item.value, **expiry(item.expires_at)).encode() + b"\n")
                count += 1
                if count % 1000 == 0:
                    progress.update(task, completed=count)
            progress.update(task, completed=count, total=count)
    output.flush()
    return count


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
