"""Errors of the disk and of the data directory."""

from wavekv.errors.base import WaveKVError


class StorageError(WaveKVError):
    """The data directory cannot be used as it is; nothing in it was changed."""

    code = "storage"
    status = 503


class DirectoryInUse(StorageError):
    code = "directory_in_use"


class DirectoryUnusable(StorageError):
    """Missing permissions, not a directory, or a read-only file system."""

    code = "directory_unusable"


class ForeignDirectory(StorageError):
    """The directory belongs to another cluster, node or program."""

    code = "foreign_directory"


class NewerVersion(StorageError):
    """Written by a newer version: start that version, or restore a copy made before the upgrade."""

    code = "wal_newer_version"


class BadHeader(StorageError):
    """A log whose header is not one of ours; the file is left untouched."""

    code = "wal_bad_header"
    exit_code = 4


class Corruption(StorageError):
    code = "corruption"
    exit_code = 4


class UnusableFile(DirectoryUnusable):
    """A name of the data directory that is no regular file of a size that its kind may have; it is left untouched."""

    code = "unusable_file"
    exit_code = 4


class VolumeTooLarge(StorageError):
    """The volume holds far more than the limits of this member allow; nothing of it was changed."""

    code = "volume_too_large"
    exit_code = 4


class SnapshotDamaged(StorageError):
    """A snapshot whose checksums or counts do not hold."""

    code = "snapshot_damaged"
    exit_code = 4


class DiskFailed(StorageError):
    """Writing or syncing failed in a way that leaves the disk's content unknown: the process must stop and recover."""

    code = "disk_failed"
