"""How files of a volume are opened and read. A volume may be restored, cloned, or changed by a stranger.

- A name is opened only where a regular file has it: never through a symbolic link, which leads out of the directory,
  and never a FIFO or device, which may answer with nothing for ever.
- What is read whole has a bound that is looked at before the first byte (`config.VolumeLimits`).
- A JSON document that nests too deep is malformed like any other, and no error of the interpreter.

Turned down: trusting whoever can write to the volume. A snapshot of a volume comes from wherever a cluster restores
from, and a member that ends with a built-in error, or with the machine's memory, cannot say which file is at fault.
"""

import errno
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from wavekv.errors import UnusableFile

_SAFE: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""O_NONBLOCK: opening a FIFO that nobody else has open would wait for ever; regular files do not know it."""
_LINK: Final = f"a symbolic link ({os.strerror(errno.ELOOP)})"
_KINDS: Final = (
    (stat.S_ISLNK, _LINK),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotRegular(OSError):
    """The name is not that of a regular file; an OSError, so that whoever handles a disk's errors handles it too."""


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file (mode 0600 if created) and return the descriptor.

    Raises:
        NotRegular: the name is that of something else; it was not opened, truncated or waited for.
        OSError: as the system says.
    """
    with suppress(FileNotFoundError):  # the system says so below, or makes it
        _require_regular(os.lstat(path), path)  # before opening: to open a device may already do something
    try:
        descriptor = os.open(path, flags | _SAFE, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotRegular(errno.ELOOP, f"it is {_LINK}", str(path)) from error
        raise
    try:
        _require_regular(os.fstat(descriptor), path)
    except NotRegular:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(facts: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = next((name for matches, name in _KINDS if matches(facts.st_mode)), "no regular file")
        raise NotRegular(errno.ELOOP, f"it is {kind}", str(path))


def unusable(path: Path, what: str) -> UnusableFile:
    """Return the error for a file that is not read as it is."""
    return UnusableFile(
        f"{path} cannot be used: {what}; nobody but the member may make files or links in its directory: restore it "
        "from a copy, or move away what is not the member's"
    )


def open_file(path: Path, *, named: bool = False) -> BinaryIO:
    """Open a regular file for reading; `named`: a person or a pod named it, so links on the way are meant.

    Raises:
        UnusableFile: the name is that of something else.
        OSError: as the system says.
    """
    try:
        return os.fdopen(open_regular(Path(os.path.realpath(path)) if named else path), "rb")
    except NotRegular as error:
        raise unusable(path, str(error.strerror)) from error


def read_file(path: Path, bytes_max: int, *, named: bool = False) -> bytes:
    """Return all of a regular file that is no longer than `bytes_max`; `named` as in `open_file`.

    Raises:
        UnusableFile: the name is that of something else, or the file is longer; nothing of it was read.
        OSError: as the system says.
    """
    with open_file(path, named=named) as file:
        size = os.fstat(file.fileno()).st_size
        if size > bytes_max:
            raise unusable(path, f"it has {size} bytes, and no file of its kind has more than {bytes_max}")
        return file.read(bytes_max)


def parse_json(data: bytes) -> Any:
    """Return what a JSON document says.

    Raises:
        ValueError: it is none, or nests deeper than the parser goes.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def require_regular(path: Path) -> None:
    """Check that a name is that of a regular file, without opening it.

    Raises:
        UnusableFile: it is that of something else.
        OSError: as the system says.
    """
    try:
        _require_regular(os.lstat(path), path)
    except NotRegular as error:
        raise unusable(path, str(error.strerror)) from error


def is_folder(path: Path) -> bool:
    """Tell whether `path` is a directory of this volume; False where nothing has the name.

    Raises:
        UnusableFile: something else has it, a symbolic link for example, which leads to another directory.
        OSError: as the system says.
    """
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(facts.st_mode):
        raise unusable(path, "it is no directory")
    return True
