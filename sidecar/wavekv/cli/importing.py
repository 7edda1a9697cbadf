"""`wavekv import`: what the options mean together, and how an import ends.

Reading, writing and remembering have their own files (`import_reader`, `import_run`, `import_state`).
"""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import click
import uvloop

from wavekv.cli.import_csv import SEPARATORS
from wavekv.cli.import_display import show_progress, show_refusal, summary, summary_text
from wavekv.cli.import_ledger import Ledger, Rejects
from wavekv.cli.import_reader import BINARY, BY_LINE, Reading, Style, style_of
from wavekv.cli.import_run import Import, Pace, last_of_keys
from wavekv.cli.import_source import ENCODINGS, Source, opened
from wavekv.cli.import_state import SUFFIX, Progress, StateFile, identify
from wavekv.cli.import_units import units
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
    encoding: str | None = None
    named: bool = True
    """Whether the format was named, or taken from the file's name."""


@click.command("import")
@click.argument("file")
@click.option("--format", "style", type=click.Choice(get_args(Style)), help="Format of FILE.  [default: by its suffix]")
@click.option("--encoding", type=click.Choice(ENCODINGS), help="Of text.  [default: by its mark, else utf-8]")
@click.option("--separator", type=click.Choice(list(SEPARATORS)), help="In csv.  [default: by `sep=`, else comma]")
@click.option("--drop", multiple=True, metavar="FIELD", help="Leave out this field or column.  [repeatable]")
@click.option("--key-prefix", default="", help="Put this before every key.")
@click.option("--comment-prefix", default="//", show_default=True, help="In lines: what begins a comment.")
@click.option("--connections", type=click.IntRange(1, 256), default=16, show_default=True)
@click.option("--state", type=_PATH, help=f"Where progress is kept.  [default: FILE{SUFFIX}]")
@click.option("--rejects", type=_PATH, help="Write every refused record here, as JSON lines.")
@click.option("--restart", is_flag=True, help="Forget an interrupted import and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@targeted
def import_file(*, target: Target, file: str, style: Style | None, as_json: bool, **given: Any) -> None:
    r"""Load FILE (- for stdin) into the member; gzip is unpacked.

    \b
    jsonl   an object a line, with key and value or value_base64, and with
            expires_at (milliseconds since 1970) or ttl (seconds from the
            import) where it expires, as `wavekv export` writes
    json    an array of such objects
    csv     a header of such names (key, value, ...) and rows
    lines   each line is a key, and its value the same bytes
    env     NAME=VALUE, as in .env files; nothing is filled in
    yaml    one mapping of names to values, flat (needs PyYAML)
    consul  what `consul kv export` writes
    etcd    what `etcdctl get --prefix KEY -w json` writes
    rdb     a dump of Redis that holds strings alone (needs rdb-py)
    aof     an append-only file of Redis, of strings alone

    What has expired is left out and counted. A field or a column of another name is refused; --drop leaves it out.
    An interrupted import goes on where it was when the same command is run again; of stdin it does not. Exit code 1
    when records were refused: --rejects keeps them, to be mended and imported.
    """
    options = Options(
        file=file,
        reading=Reading(
            style_of(file, style),
            given["key_prefix"],
            given["comment_prefix"],
            separator=SEPARATORS[given["separator"]] if given["separator"] else None,
            dropped=given["drop"],
        ),
        pace=Pace(connections=given["connections"]),
        state=given["state"],
        rejects=given["rejects"],
        restart=given["restart"],
        encoding=given["encoding"],
        named=style is not None,
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
    reading = options.reading
    if options.file == "-" and (options.state is not None or options.restart):
        raise UsageError("stdin cannot be read again, so --state and --restart mean nothing for it")
    with opened(options.file, options.encoding, binary=reading.style in BINARY) as source:
        state = _state(source, target, options)
        cut_short = state is not None and state.exists()
        progress = state.load() if state is not None else Progress()
        resumed_at = progress.done
        doubtful = _doubtful(source, options, resumed_at) if cut_short else None
        rest = islice(units(source.stream, reading, named=options.named), resumed_at, None)
        what = "line" if reading.style in BY_LINE else "record"
        rejects = Rejects(options.rejects, progress.rejects_bytes, partial(show_refusal, what))
        ledger = Ledger(progress, state.save if state is not None else _forget, rejects)
        began = time.monotonic()
        failure: WaveKVError | None = None
        try:
            # Even an import killed before its first record leaves the trace that makes the next one compare.
            ledger.save()
            work = Import(target, ledger, options.pace, doubtful).run(rest)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_watched(work, ledger, source))
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


async def _watched(work: Coroutine[Any, Any, None], ledger: Ledger, source: Source) -> None:
    position = source.stream.tell if source.path is not None else lambda: 0
    display = asyncio.create_task(show_progress(ledger, position, source.size))
    try:
        await work
    finally:
        display.cancel()
        await asyncio.wait([display])


def _state(source: Source, target: Target, options: Options) -> StateFile | None:
    if source.path is None:
        return None
    reading = {**asdict(options.reading), "encoding": options.encoding}
    job = identify(source.stream, source.path, str(target), reading)
    state = StateFile(options.state or source.path.with_name(source.path.name + SUFFIX), job)
    if options.restart:
        state.remove()
    return state


def _doubtful(source: Source, options: Options, done: int) -> dict[str, int]:
    window = islice(units(source.stream, options.reading, named=options.named), done, done + options.pace.window_units)
    last = last_of_keys(enumerate(window, done))
    source.stream.seek(0)
    return last
