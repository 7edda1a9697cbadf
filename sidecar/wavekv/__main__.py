"""The entry point `wavekv`.

Exit codes: 0 ok, 1 refused or not found, 2 usage, 3 unreachable, 4 corruption, 130 interrupted.
"""

import sys

from wavekv.cli.interrupts import end_at_once


def main() -> None:
    """Run the command line of this process and exit."""
    end_at_once()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; what went wrong is on stderr."""
    from wavekv.cli.endings import run_command  # noqa: PLC0415 - Ctrl-C may come while this is imported

    return run_command(arguments)


if __name__ == "__main__":
    main()
