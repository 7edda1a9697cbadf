"""How every ending of a command becomes an exit code and at most one line on stderr.

A reader that closed our output (`| head`) is an ending too: 1, without a traceback. Click's own stand-alone mode was
turned down because it prints other errors as tracebacks and turns Ctrl-C into exit code 1.
"""

import os
import sys

import click

from wavekv.cli.root import cli
from wavekv.errors import WaveKVError


def run_command(arguments: list[str]) -> int:
    """Run one command and return its exit code; what went wrong is on stderr."""
    try:
        code = cli.main(arguments, prog_name="wavekv", standalone_mode=False)
        sys.stdout.flush()
    except WaveKVError as error:
        click.echo(f"wavekv: {error.detail} [{error.named}]", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more on its way out; give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0
