r"""The standard streams of a command: closed ones, full ones, and terminals that cannot show every letter.

A closed stream's number is kept from being given to the next file or socket. Writing to a closed output fails like
writing to a full disk, at the end at the latest, so that no command says it printed what nobody got. What an output's
encoding lacks is written as JSON escapes it (`\u00e4`), so that what is JSON stays JSON.
"""

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Final, cast

_ESCAPED: Final = "wavekv.escaped"


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4)), error.end


codecs.register_error(_ESCAPED, _escape)


def prepare_streams() -> None:
    """Make the standard streams safe to use; called once, before a command begins."""
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        _hold(number, flags)
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        # What tests put in their place is left alone.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)


def _hold(number: int, flags: int) -> None:
    """Open the null device under `number` where nothing is open; of stdin and stdout, for the wrong direction."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, flags)
        if opened != number:
            os.dup2(opened, number, inheritable=True)
            os.close(opened)


def silence(stream_number: int) -> None:
    """Let what is still buffered for an output go nowhere: the interpreter flushes once more on its way out."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream_number)


def say(text: str) -> None:
    """Print a line on stderr, if anybody can get it."""
    try:
        print(text, file=cast("io.TextIOBase | None", sys.stderr), flush=True)
    except OSError:
        silence(2)
