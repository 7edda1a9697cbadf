"""How every ending of a command becomes an exit code and at most one line on stderr.

A reader that closed our output (`| head`) is an ending too: 1, without a traceback; so is an output that is full. With
`--json` an error is a JSON object of code, detail and exit_code. Click's own stand-alone mode was turned down because
it prints other errors as tracebacks and turns Ctrl-C into exit code 1.
"""

import json
import sys
from collections.abc import Sequence

import click

from wavekv.cli.errors import OutputFailed
from wavekv.cli.root import cli
from wavekv.cli.streams import prepare_streams, say, silence
from wavekv.errors import WaveKVError


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code; what went wrong is on stderr."""
    prepare_streams()
    try:
        return _run(arguments)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        silence(1)
        return 1
    except OSError as error:
        silence(1)
        if error.filename is not None:
            return _failed(arguments, "storage", f"{error.filename}: {error.strerror}", 1)
        failed = OutputFailed(f"the output cannot be written: {error.strerror}; what was done stays")
        return _failed(arguments, failed.named, failed.detail, failed.exit_code)


def _run(arguments: list[str]) -> int:
    try:
        code = cli.main(arguments, prog_name="wavekv", standalone_mode=False)
        sys.stdout.flush()
    except WaveKVError as error:
        return _failed(arguments, error.named, error.detail, error.exit_code)
    except click.ClickException as error:
        if _wants_json(arguments):
            return _failed(arguments, "usage", error.format_message(), error.exit_code)
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0


def _failed(arguments: Sequence[str], code: str, detail: str, exit_code: int) -> int:
    if _wants_json(arguments):
        say(json.dumps({"code": code, "detail": detail, "exit_code": exit_code}, ensure_ascii=False))
    else:
        say(f"wavekv: {detail} [{code}]")
    return exit_code


def _wants_json(arguments: Sequence[str]) -> bool:
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options
