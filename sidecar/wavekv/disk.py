"""Every call that changes the data directory, as a protocol, so that tests can fail or stop at each of them.

`OsDisk` is the real one. Callers see `OSError` and turn it into our errors with `disk_error`, which is the one place
that tells a full disk and a lack of descriptors from a failed disk.

Whoever may write into the directory must not lead a member elsewhere: no name is followed as a symbolic link, and a
file that is made anew is made by this process (`create`), whatever had the name before.
"""

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from wavekv.errors import DirectoryUnusable, DiskFailed, DiskFull, OutOfDescriptors, WaveKVError
from wavekv.volume import NotRegular, open_regular, unusable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_REFUSED = (errno.EACCES, errno.EPERM, errno.ENOTDIR)
_TAMPERED = (errno.ELOOP, errno.EEXIST)


class Disk(Protocol):
    """The system calls of the log. All raise OSError."""

    def open(self, path: Path, flags: int) -> int:
        """Open `path` (mode 0600 if created) and return the descriptor; a symbolic link is refused."""
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
        descriptor = _SPARE.open_directory(path)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            _SPARE.refill()

    def rename(self, source: Path, target: Path) -> None:
        """Make the system call `rename`."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Make the system call `unlink`; a missing file is fine."""
        path.unlink(missing_ok=True)

    def mkdir(self, path: Path) -> None:
        """Make the system call `mkdir`."""
        path.mkdir(mode=0o700, exist_ok=True)


class _SpareDescriptor:
    """One descriptor held for nothing, so that a directory can be synced when the process has no other left.

    A rename that cannot be made durable leaves open what is on disk, and would end the process; a file that cannot be
    opened before it only has to be tried again.
    """

    def __init__(self) -> None:
        self._held: int | None = None
        self._lock = threading.Lock()

    def open_directory(self, path: Path) -> int:
        """Return a descriptor of a directory, if need be in the place of the spare one. Raises OSError."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        with self._lock:
            try:
                return os.open(path, flags)
            except OSError as error:
                if not lacks_descriptors(error) or self._held is None:
                    raise
                os.close(self._held)
                self._held = None
                return os.open(path, flags)

    def refill(self) -> None:
        """Hold one again, as soon as there is one."""
        with self._lock, suppress(OSError):
            if self._held is None:
                self._held = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


_SPARE: Final = _SpareDescriptor()
OS_DISK: Final = OsDisk()


def is_full(error: OSError) -> bool:
    """Tell whether `error` means that room or quota is used up."""
    return error.errno in _FULL


def lacks_descriptors(error: OSError) -> bool:
    """Tell whether `error` means that no further file can be opened; nothing was changed on disk."""
    return error.errno in _NO_DESCRIPTOR


def disk_error(error: OSError, action: str) -> WaveKVError:
    """Return our error for `error`, met while doing `action` ("write FILE")."""
    reason = f"cannot {action}: {error.strerror or error}"
    if isinstance(error, NotRegular):
        return unusable(Path(error.filename), str(error.strerror))
    if is_full(error):
        return DiskFull(f"{reason}; free some room on the volume")
    if lacks_descriptors(error):
        return out_of_descriptors(reason)
    remedy = _remedy(error)
    return DirectoryUnusable(f"{reason}; {remedy}") if remedy else DiskFailed(f"{reason}; {advice(error)}")


def _remedy(error: OSError) -> str | None:
    """Return what to do about a directory that cannot be used as it is; None: it is the disk."""
    if error.errno == errno.EROFS:
        return advice(error)
    if error.errno in _REFUSED:
        return f"the directory must be writable for user {os.geteuid()}"
    return "nobody but the member may make files or links in its directory" if error.errno in _TAMPERED else None


def out_of_descriptors(reason: str) -> OutOfDescriptors:
    """Return the error for a file that could not be opened because of `reason`, with what to do about it."""
    return OutOfDescriptors(f"{reason}; the disk is fine: close connections, or allow the process more open files")


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


def create(disk: Disk, path: Path, flags: int = os.O_WRONLY) -> int:
    """Open a new, empty file at `path` in the place of what has the name, be it a link, and return the descriptor.

    Raises:
        OSError: as the system says; EEXIST where another process made one at this very moment.
    """
    disk.unlink(path)
    return disk.open(path, flags | os.O_CREAT | os.O_EXCL)


def write_synced(disk: Disk, path: Path, data: bytes) -> None:
    """Make `path` hold `data`, durably; its name is durable only after `sync_dir`.

    Raises:
        OSError: as the system says; the file may be partly written.
    """
    descriptor = create(disk, path)
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
