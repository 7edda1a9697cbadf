"""Ctrl-C while the modules of a command are imported: it ends the process at once.

Nothing has begun then that would need cleaning up. The interpreter's own way, an exception, was turned down for that
time: it shows as a traceback, and what extension modules and the import system make of it is not always an end.
"""

import os
import signal


def end_at_once() -> None:
    """Let SIGINT end the process with 130, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """Let SIGINT raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    os._exit(130)
