"""`wavekv export`: a member's entries as JSON lines, CSV or Consul's form, in key order.

It pages through the listing, so a write meanwhile may show or not; each line is one value the key really had. A file
appears under its name only when it is whole.
"""

import sys
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wavekv.cli.client import Client
from wavekv.cli.crate_export import export_crate
from wavekv.cli.export_forms import FORMS, Form
from wavekv.cli.interruptible import run_until_interrupted
from wavekv.cli.status import field
from wavekv.cli.target import Target, targeted
from wavekv.cli.whole_file import whole_file
from wavekv.core.types import U32_MAX
from wavekv.errors import UsageError


@click.command()
@click.argument("file", default="-")
@click.option("--prefix", default="", help="Keys that begin with this.")
@click.option("--format", "style", type=click.Choice([*FORMS, "crate"]), default="jsonl", show_default=True)
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
@click.option(
    "--drop", type=click.Choice(["expires_at"]), multiple=True, help="Leave this out where the format has no place."
)
@targeted
def export(
    target: Target,
    file: str,
    prefix: str,
    style: str,
    *,
    data_dir: Path | None,
    members: tuple[int, ...],
    drop: tuple[str, ...],
) -> None:
    """Write all entries to FILE (- or nothing: stdout); `wavekv import` reads it back.

    jsonl: one JSON object a line, with "key" and "value", or "value_base64" where the value is not UTF-8, and
    "expires_at" (milliseconds since 1970) where it expires. csv: a header and rows of the same. consul: an array as
    `consul kv import` reads it, which has no place for an expiry.

    A file that is there is replaced once the new one is whole; into a FIFO or a device it is written.

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
            "--data-dir and --crate-member belong to --format crate; other forms come from a running member"
        )
    form = FORMS[style](without_expiry="expires_at" in drop)
    if file == "-":
        run_until_interrupted(_write(target, prefix, form, sys.stdout.buffer))
        return
    path = Path(file)
    with whole_file(path) as output:
        count = run_until_interrupted(_write(target, prefix, form, output))
    click.echo(f"{count} entries written to {path}", err=True)


async def _write(target: Target, prefix: str, form: Form, output: BinaryIO) -> int:
    count = 0
    async with Client(target) as client:
        total = None if prefix else field(await client.status(), "store", "live")
        with _progress() as progress:
            task = progress.add_task("exporting", total=total)
            output.write(form.begin)
            async for item in client.items(prefix):
                assert item.value is not None, "values were asked for"
                output.write(form.record(item.key, item.value, item.expires_at))
                count += 1
                if count % 1000 == 0:
                    progress.update(task, completed=count)
            progress.update(task, completed=count, total=count)
        output.write(form.end)
    output.flush()
    return count


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
