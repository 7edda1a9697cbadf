"""`wavekv import`: what the options mean together, and how an import ends.

Reading, writing and remembering have their own files (`import_reader`, `import_run`, `import_state`).
"""

import asyncio
import io
import json
import os
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, get_args

import click
import uvloop

from wavekv.cli.import_display import show_progress, show_refusal, summary, summary_text
from wavekv.cli.import_ledger import Ledger, Rejects
from wavekv.cli.import_reader import Reading, Style, style_of, units
from wavekv.cli.import_run import Import, Pace, last_of_keys
from wavekv.cli.import_state import SUFFIX, Progress, StateFile, identify
from wavekv.cli.target import Target, targeted
from wavekv.errors import UsageError, WaveKVError

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class Options:
    """The command's options."""

    file: str
    reading: Reading
    pace: Pace
    state: Path | None
    rejects: Path | None
    restart: bool


@click.command("import")
@click.argument("file")
@click.option("--format", "style", type=click.Choice(get_args(Style)), help="Format of FILE.  [default: by its suffix]")
@click.option("--key-prefix", default="", help="Put this before every key.")
@click.option("--comment-prefix", default="//", show_default=True, help="In lines: what begins a comment.")
@click.option("--connections", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--state", type=_PATH, help=f"Where progress is kept.  [default: FILE{SUFFIX}]")
@click.option("--rejects", type=_PATH, help="Write every refused record here, as JSON lines.")
@click.option("--restart", is_flag=True, help="Forget an interrupted import and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@targeted
def import_file(*, target: Target, file: str, style: Style | None, as_json: bool, **given: Any) -> None:
    """Load FILE (- for stdin) into the member.

    jsonl: an object a line with "key" and "value" or "value_base64", as `wavekv export` writes, and with
    "expires_at" (milliseconds since 1970) or "ttl" (seconds from the import) where it expires; what has expired is left
    out. csv: a header with
    the columns key and value or value_base64. lines: each line is a key and its value the same bytes.

    An interrupted import goes on where it was when the same command is run again; of stdin it does not. Exit code 1
    when records were refused.
    """
    options = Options(
        file=file,
        reading=Reading(style_of(file, style), given["key_prefix"], given["comment_prefix"]),
        pace=Pace(connections=given["connections"]),
        state=given["state"],
        rejects=given["rejects"],
        restart=given["restart"],
    )
    facts, failure = run_import(target, options)
    click.echo(json.dumps(facts) if as_json else summary_text(facts), err=not as_json)
    if failure is not None:
        raise failure
    if facts["refused"]:
        raise click.exceptions.Exit(1)


def run_import(target: Target, options: Options) -> tuple[dict[str, Any], WaveKVError | None]:
    """Return the summary, and why the import ended early if it did.

    Raises:
        UsageError: the input, the state file or the rejects file is not as it has to be.
    """
    with _opened(options.file) as source:
        state = _state(source, target, options)
        cut_short = state is not None and state.exists()
        progress = state.load() if state is not None else Progress()
        resumed_at = progress.done
        doubtful = _doubtful(options, resumed_at) if cut_short else None
        rejects = Rejects(options.rejects, progress.rejects_bytes, show_refusal)
        ledger = Ledger(progress, state.save if state is not None else _forget, rejects)
        rest = islice(units(source, options.reading), resumed_at, None)
        began = time.monotonic()
        failure: WaveKVError | None = None
        try:
            # Even an import killed before its first record leaves the trace that makes the next one compare.
            ledger.save()
            work = Import(target, ledger, options.pace, doubtful).run(rest)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_watched(work, ledger, source, sized=state is not None))
        except WaveKVError as error:
            failure = error
        finally:
            rejects.close()
            _end(state, ledger, stopped=failure is not None or sys.exc_info()[0] is not None)
        if isinstance(failure, UsageError):
            raise failure
        seconds = time.monotonic() - began
        return summary(ledger.counts, ledger.done, resumed_at, seconds, complete=failure is None), failure


def _forget(progress: Progress) -> None:
    """Keep nothing: stdin cannot be read a second time."""


def _end(state: StateFile | None, ledger: Ledger, stopped: bool) -> None:
    if state is not None and stopped and ledger.done:
        click.echo("wavekv: stopped; what was done is kept, run the same command again to go on", err=True)
    elif state is not None and not stopped:
        state.remove()


async def _watched(work: Coroutine[Any, Any, None], ledger: Ledger, source: BinaryIO, sized: bool) -> None:
    size = os.fstat(source.fileno()).st_size if sized else None
    display = asyncio.create_task(show_progress(ledger, source.tell if sized else lambda: 0, size))
    try:
        await work
    finally:
        display.cancel()
        await asyncio.wait([display])


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        # Never closed: closing waits for the reading thread, which may wait for input nobody types.
        yield _stdin()
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 - closed below; errors of the block are not ours to rename
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    with source:
        yield source


def _stdin() -> BinaryIO:
    """Return stdin under a handle of our own, which the interpreter does not try to close at its end either."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:
        return sys.stdin.buffer


def _state(source: BinaryIO, target: Target, options: Options) -> StateFile | None:
    if options.file == "-":
        if options.state is not None or options.restart:
            raise UsageError("stdin cannot be read again, so --state and --restart mean nothing for it")
        return None
    path = Path(options.file)
    if not path.is_file():
        raise UsageError(f"{path} is not a file; give - and feed it to stdin")
    job = identify(source, path, str(target), asdict(options.reading))
    state = StateFile(options.state or path.with_name(path.name + SUFFIX), job)
    if options.restart:
        state.remove()
    return state


def _doubtful(options: Options, done: int) -> dict[str, int]:
    count = options.pace.window_units
    with _opened(options.file) as source:
        window = islice(units(source, options.reading), done, done + count)
        return last_of_keys(enumerate(window, done))
