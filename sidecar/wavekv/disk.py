"""Every call that changes the data directory, as a protocol, so that tests can fail or stop at each of them.

`OsDisk` is the real one and keeps nothing. Callers see `OSError` and turn it into our errors with `disk_error`, which
is the one place that tells a full disk from a failed one.
"""

import errno
import os
from pathlib import Path
from typing import Final, Protocol

from wavekv.errors import DirectoryUnusable, DiskFailed, DiskFull, WaveKVError
from wavekv.volume import NotRegular, open_regular, unusable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.ENOTDIR)


class Disk(Protocol):
    """The system calls of the log. All raise OSError."""

    def open(self, path: Path, flags: int) -> int:
        """Open `path` (mode 0600 if created) and return the descriptor."""
        ...

    def close(self, descriptor: int) -> None:
        """Release `descriptor`."""
        ...

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        """Write at `offset`; return how many bytes were taken."""
        ...

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return when content and size of the file are durable."""
        ...

    def sync_dir(self, path: Path) -> None:
        """Return when the names in `path` are durable."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, replacing what has it."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        ...

    def mkdir(self, path: Path) -> None:
        """Make a directory of mode 0700; one that exists is fine."""
        ...


class OsDisk:
    """The operating system's files."""

    def open(self, path: Path, flags: int) -> int:
        """Make the system call `open`; whatever is no regular file is refused."""
        return open_regular(path, flags)

    def close(self, descriptor: int) -> None:
        """Make the system call `close`."""
        os.close(descriptor)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        """Make the system call `pwrite`."""
        return os.pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        """Make the system call `ftruncate`."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Make the system call `fdatasync`, which covers the size as well."""
        os.fdatasync(descriptor)

    def sync_dir(self, path: Path) -> None:
        """Make the system call `fsync` on the directory."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Make the system call `rename`."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Make the system call `unlink`; a missing file is fine."""
        path.unlink(missing_ok=True)

    def mkdir(self, path: Path) -> None:
        """Make the system call `mkdir`."""
        path.mkdir(mode=0o700, exist_ok=True)


OS_DISK: Final = OsDisk()


def is_full(error: OSError) -> bool:
    """Tell whether `error` means that room or quota is used up."""
    return error.errno in _FULL


def disk_error(error: OSError, action: str) -> WaveKVError:
    """Return our error for `error`, met while doing `action` ("write FILE")."""
    reason = f"cannot {action}: {error.strerror or error}"
    if isinstance(error, NotRegular):
        return unusable(Path(error.filename), str(error.strerror))
    if is_full(error):
        return DiskFull(f"{reason}; free some room on the volume")
    if error.errno == errno.EROFS:
        return DirectoryUnusable(f"{reason}; {advice(error)}")
    if error.errno in _REFUSED:
        return DirectoryUnusable(f"{reason}; the directory must be writable for user {os.geteuid()}")
    return DiskFailed(f"{reason}; {advice(error)}")


def advice(error: OSError) -> str:
    """Return what to do about a disk that failed, for the end of a message."""
    # A file system turns read-only by itself when its device fails: mounting it again without a look loses more.
    mended = ", mount it writable" if error.errno == errno.EROFS else ""
    return f"check the volume{mended}, then start again"


def write_all(disk: Disk, descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data`, in as many calls as the system needs; for content not yet relied on.

    Raises:
        OSError: not all could be written.
    """
    done = 0
    while done < len(data):
        taken = disk.write(descriptor, data[done:], offset + done)
        if taken <= 0:
            raise OSError(errno.EIO, "the write took nothing")
        done += taken


def write_synced(disk: Disk, path: Path, data: bytes) -> None:
    """Make `path` hold `data`, durably; its name is durable only after `sync_dir`.

    Raises:
        OSError: as the system says; the file may be partly written.
    """
    descriptor = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(disk, descriptor, data, 0)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)


def replace_file(disk: Disk, path: Path, data: bytes) -> None:
    """Make `path` hold `data`, durably and all or nothing: another file, synced, renamed, directory synced.

    Raises:
        OSError: as the system says; `path` holds its old content or the new.
    """
    partial = path.with_name(f"{path.name}.tmp")
    write_synced(disk, partial, data)
    disk.rename(partial, path)
    disk.sync_dir(path.parent)
