"""A file that appears under its name only when it is whole, and what is done where the name is no regular file.

A regular file that is there is replaced and keeps its mode; a link is followed to the file it names. What is no regular
file (a FIFO, a device) is never replaced: the bytes are written into it.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from wavekv.errors import DirectoryUnusable


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its name, synced, when the block ends well and vanishes when not.

    Raises:
        DirectoryUnusable: the file cannot be written there.
    """
    try:
        mode = path.stat().st_mode if path.exists() else None
        if mode is None or stat.S_ISREG(mode):
            yield from _replaced(Path(os.path.realpath(path)), mode)
        else:
            with path.open("r+b" if stat.S_ISBLK(mode) else "wb", buffering=1 << 16) as output:
                yield output
    except OSError as error:
        raise DirectoryUnusable(f"{path} cannot be written: {error.strerror}") from error


def _replaced(path: Path, mode: int | None) -> Iterator[BinaryIO]:
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        if mode is not None:
            draft.touch(0o600, exist_ok=False)  # nobody else reads it before it has its mode
            draft.chmod(stat.S_IMODE(mode))
        with draft.open("xb" if mode is None else "r+b") as output:
            yield output
            output.flush()
            os.fsync(output.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
