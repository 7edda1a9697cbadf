"""Who a data directory belongs to, and that one process at a time uses it: `LOCK` and `IDENTITY`.

Invariants:
- A refused directory is left as it was found: everything that can be refused is looked at before the first change.
- The boot count is raised, durably, before anything else of the process (ephemeral sequences start from it, and a
  process that is not the directory's first never writes under the node id, G8).
- `IDENTITY` holds its old content or its new, whatever happens in between.
- A directory of the original system becomes ours on its first open (`conversion`), and is refused before that if any
  of its files is not what it has to be.

Turned down: a pid file as the lock, which outlives its process; the kernel drops an flock for us.
"""

import fcntl
import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from wavekv.config import VOLUME_LIMITS, WalSettings
from wavekv.core.types import I64_MAX, U32_MAX
from wavekv.disk import OS_DISK, Disk, disk_error, replace_file
from wavekv.errors import (
    Corruption,
    DirectoryInUse,
    DirectoryUnusable,
    ForeignDirectory,
    NewerVersion,
    UsageError,
)
from wavekv.volume import is_folder, open_regular, parse_json, read_file, require_regular, unusable
from wavekv.wal.conversion import FOLDER, MARKER, Conversion, convert, finish_conversion, read_conversion
from wavekv.wal.crate import CrateFiles, find_crate_files, read_crate
from wavekv.wal.quarantine import QUARANTINE
from wavekv.wal.reserve import start_with
from wavekv.wal.segment import segment_number

FORMAT: Final = 1
"""Of a directory whose state is in its segments alone, which every version reads."""
FORMAT_SNAPSHOTS: Final = 2
"""Of one that may hold snapshots: a version that knows none would find segments missing, and must refuse instead."""
BOOTS_MAX: Final = 1 << 23
"""Starts of processes that a directory may count: the sequences of the ephemeral store begin at the count << 40."""
CLUSTER_ID_MAX: Final = 256
"""Characters of a cluster id; it is a UUID."""
IDENTITY: Final = "IDENTITY"
LOCK: Final = "LOCK"
_LOCK_BYTES_MAX: Final = 32
"""The number of a process, and the end of its line."""
_FILES: Final = re.compile(
    r"(LOCK|IDENTITY|MEMBERSHIP|RESERVE|CONVERTING)(\.tmp)?|\d{8}\.(wal|snapshot|spare)(\.[\w.-]+)?"
    r"|node_\d+\.(wal|snapshot|snapshot\.bak)"
)
"""What is a file in every directory of ours, and of the original system."""
_FOLDERS: Final = (FOLDER, QUARANTINE)
_HARMLESS: Final = (LOCK, f"{IDENTITY}.tmp", f"{MARKER}.tmp", "lost+found")
"""What a directory may hold that is to become ours: our own first steps, and what a file system puts on a volume."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is born with a directory, and the number of process starts on it so far (0: just converted)."""

    format: int
    node_id: int
    uuid: uuid.UUID
    cluster_id: str | None
    boot_count: int
    created_at: int


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """An open directory: locked until `close`."""

    path: Path
    identity: Identity
    is_new: bool
    """There was no identity before this process."""
    lock: int
    """Descriptor of the locked file."""
    converted: Conversion | None = None
    """How it became ours, where it was the original system's until now and no process has run on it."""
    before: bytes | None = None
    """What `IDENTITY` held before this start was counted; None: there was none, or it was made just now."""

    def uncount(self, disk: Disk = OS_DISK) -> None:
        """Take this start back: it is refused for what a newer or foreign program wrote, which stays as it was found.

        Nothing was written under any origin yet, so the next start may have this one's number.

        Raises:
            DiskFull, DiskFailed: `IDENTITY` could not be written; the start stays counted, which harms nothing.
        """
        before = self.before
        if before is not None:
            try:
                start_with(self.path, disk, lambda: replace_file(disk, self.path / IDENTITY, before))
            except OSError as error:
                raise disk_error(error, f"write {self.path / IDENTITY}") from error

    @property
    def first_process(self) -> bool:
        """Tell whether this is the first process on the directory, the one that writes under the node id (R7)."""
        return self.identity.boot_count == 1

    @property
    def lost_something(self) -> bool:
        """Tell whether the original system's files did not come to all that was durable in them."""
        return self.converted is not None and self.converted.damage is not None

    def close(self) -> None:
        """Give the lock back."""
        os.close(self.lock)


def open_directory(
    path: Path,
    *,
    node_id: int | None,
    cluster_id: str | None,
    now_ms: int,
    new_node_id: Callable[[], int],
    new_uuid: Callable[[], uuid.UUID],
    segment_bytes_max: int = WalSettings().segment_bytes_max,
    disk: Disk = OS_DISK,
) -> DataDirectory:
    """Open, create or convert the data directory, lock it, and count this process start.

    Args:
        path: The directory; it and its parents are made where absent.
        node_id: The id for a new directory (None: drawn by `new_node_id`); an existing one must have it.
        cluster_id: The cluster the member belongs to; adopted by a directory that has none yet.
        now_ms: Creation time for a new identity.
        new_node_id: Draws a node id, 1 … 2^32-1.
        new_uuid: Draws the directory's uuid.
        segment_bytes_max: Of a log that a conversion writes.
        disk: The system calls.

    Raises:
        UsageError: `node_id` is out of range.
        DirectoryUnusable: not a directory, or not writable.
        DirectoryInUse: another process has it open.
        ForeignDirectory: it belongs to another cluster, node or program.
        BadHeader: it is the original system's, and a file of it is not what its name says.
        NewerVersion: a newer version wrote it.
        Corruption: its identity cannot be read.
        UnusableFile: a name in it is not that of a regular file, or the file is longer than its kind may be.
        DiskFull, DiskFailed: what makes it ours could not be written.
    """
    if node_id is not None and not 1 <= node_id <= U32_MAX:
        raise UsageError(f"node id {node_id} is outside 1 … {U32_MAX}")
    try:
        if not path.exists():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk.sync_dir(path.parent)
        found = _inspect(path, node_id, cluster_id)
        crate = read_crate(found) if isinstance(found, CrateFiles) else None
        lock = lock_directory(path)
    except OSError as error:
        raise disk_error(error, f"open the data directory {path}") from error
    try:
        found = _inspect(path, node_id, cluster_id)  # once more: somebody may have had the lock meanwhile
        is_new = found is None
        if found is None:
            chosen = new_node_id() if node_id is None else node_id
            found = Identity(FORMAT, chosen, new_uuid(), None, 0, now_ms)
        elif isinstance(found, CrateFiles):
            born = Identity(FORMAT, found.node_id, new_uuid(), None, 0, now_ms)
            state = crate or read_crate(found)
            told = {"now_ms": now_ms, "segment_bytes_max": segment_bytes_max}
            convert(found, state, path / IDENTITY, encode_identity(born), **told, disk=disk)
            found = born
        finish_conversion(path, disk)
        converted = None if found.boot_count else read_conversion(path)
        before = read_file(path / IDENTITY, VOLUME_LIMITS.document_bytes_max) if found.boot_count else None
        identity = replace(found, cluster_id=found.cluster_id or cluster_id, boot_count=found.boot_count + 1)
        _keep(path, identity, disk)
    except OSError as error:
        os.close(lock)
        raise disk_error(error, f"make {path} this member's") from error
    except BaseException:
        os.close(lock)
        raise
    return DataDirectory(path, identity, is_new, lock, converted, before)


def _keep(path: Path, identity: Identity, disk: Disk) -> None:
    """Write `IDENTITY`, on a full volume too."""
    data = encode_identity(identity)
    start_with(path, disk, lambda: replace_file(disk, path / IDENTITY, data))


def allow_snapshots(path: Path, disk: Disk = OS_DISK) -> None:
    """Mark the open directory as one that may hold snapshots, durably, before it gets its first.

    Raises:
        DiskFull, DiskFailed: it could not be written.
    """
    file = path / IDENTITY
    try:
        identity = read_identity_file(file)
        if identity.format < FORMAT_SNAPSHOTS:
            replace_file(disk, file, encode_identity(replace(identity, format=FORMAT_SNAPSHOTS)))
    except OSError as error:
        raise disk_error(error, f"write {file}") from error


def encode_identity(identity: Identity) -> bytes:
    """Return the content of `IDENTITY`: one JSON object."""
    return json.dumps(asdict(identity) | {"uuid": str(identity.uuid)}, indent=1).encode() + b"\n"


def read_identity_file(file: Path) -> Identity:
    """Return what the file `IDENTITY` says.

    Raises:
        UnusableFile: it is no regular file, or too long.
        NewerVersion, Corruption: as `decode_identity`.
        OSError: it cannot be read.
    """
    return decode_identity(read_file(file, VOLUME_LIMITS.document_bytes_max), str(file))


def decode_identity(data: bytes, name: str) -> Identity:
    """Read the content of `IDENTITY`; `name` is the file's for messages.

    Raises:
        NewerVersion: its format is a later one.
        Corruption: it is not what `encode_identity` writes.
    """
    try:
        fields = parse_json(data)
        if isinstance(fields, dict) and type(fields.get("format")) is int and fields["format"] > FORMAT_SNAPSHOTS:
            known = f"this version reads up to {FORMAT_SNAPSHOTS}"
            raise NewerVersion(f"{name} has format {fields['format']}, {known}; start a newer one")
        identity = Identity(**{**fields, "uuid": uuid.UUID(fields["uuid"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Corruption(f"{name} is damaged ({error}); restore it, or start with an empty directory") from error
    numbers = (identity.format, identity.node_id, identity.boot_count, identity.created_at)
    cluster = identity.cluster_id
    if any(type(number) is not int for number in numbers) or not (cluster is None or isinstance(cluster, str)):
        raise Corruption(
            f"{name} is damaged (a field has the wrong type); restore it, or start with an empty directory"
        )
    if (
        not FORMAT <= identity.format <= FORMAT_SNAPSHOTS
        or not 1 <= identity.node_id <= U32_MAX
        or not 0 <= identity.boot_count < BOOTS_MAX
        or not 0 <= identity.created_at <= I64_MAX
        or len(cluster or "") > CLUSTER_ID_MAX
    ):
        raise Corruption(f"{name} is damaged (a field is out of range); restore it, or start with an empty directory")
    return identity


def _inspect(path: Path, node_id: int | None, cluster_id: str | None) -> Identity | CrateFiles | None:
    """Return whose `path` is: ours, the original system's, or None where it may become ours; refuse all else."""
    if not path.is_dir():
        raise DirectoryUnusable(f"{path} is not a directory")
    file = path / IDENTITY
    _refuse_strange(path)
    if not os.path.lexists(file):
        return _unclaimed(path, node_id)
    identity = read_identity_file(file)
    if node_id is not None and identity.node_id != node_id:
        raise ForeignDirectory(f"{path} belongs to node {identity.node_id}, not to node {node_id}")
    if cluster_id is not None and identity.cluster_id not in (None, cluster_id):
        raise ForeignDirectory(f"{path} belongs to cluster {identity.cluster_id}, not to cluster {cluster_id}")
    return identity


def _refuse_strange(path: Path) -> None:
    """Refuse a directory with more names than may be listed again and again, or with names of ours that are no files.

    Raises:
        UnusableFile: it is so; nothing was changed.
    """
    claimed = os.path.lexists(path / IDENTITY)
    with os.scandir(path) as found:
        for count, entry in enumerate(found, start=1):
            if count > VOLUME_LIMITS.names_max:
                raise unusable(path, f"it holds more than {VOLUME_LIMITS.names_max} names")
            if _FILES.fullmatch(entry.name):
                require_regular(path / entry.name)
            elif entry.name in _FOLDERS and claimed:  # without an identity any such name is foreign
                is_folder(path / entry.name)


def _unclaimed(path: Path, node_id: int | None) -> CrateFiles | None:
    """Return the original system's files in a directory without identity, None if it holds nothing to speak of."""
    crate = find_crate_files(path)
    expected = set(crate.names) if crate else set()
    if crate and (path / MARKER).exists():  # an unfinished conversion, which begins anew
        expected |= {MARKER, *(entry.name for entry in path.iterdir() if segment_number(entry.name) is not None)}
    foreign = sorted(entry.name for entry in path.iterdir() if not _harmless(entry) and entry.name not in expected)
    if foreign and crate:
        raise ForeignDirectory(
            f"{path} holds {', '.join(foreign[:3])} beside the original system's {crate.names[0]}: "
            "give a directory with the files of one node and nothing else"
        )
    if foreign:
        raise ForeignDirectory(
            f"{path} holds {', '.join(foreign[:3])} but no {IDENTITY}: give an empty directory, or restore "
            f"{IDENTITY} if it was ours"
        )
    if crate and node_id is not None and crate.node_id != node_id:
        raise ForeignDirectory(
            f"{path} holds the original system's node {crate.node_id}, not node {node_id}; "
            f"leave the node id out, or give {crate.node_id}"
        )
    return crate


def _harmless(entry: Path) -> bool:
    return entry.name in _HARMLESS or entry.name.startswith(".") or entry.is_socket()


def lock_directory(path: Path) -> int:
    """Lock `path` for this process and return the descriptor; closing it gives the lock back.

    Raises:
        DirectoryInUse: another process has it.
        OSError: the lock's file cannot be opened.
    """
    lock = open_regular(path / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        os.close(lock)
        by = f"process {holder}" if holder.isdecimal() else "another process"
        raise DirectoryInUse(f"{path} is in use by {by}; stop it, or give another directory") from error
    except OSError:
        os.close(lock)
        raise
    try:
        if os.fstat(lock).st_size <= _LOCK_BYTES_MAX:  # a longer file is another one under this name, and stays whole
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except OSError:
        pass  # the number is a courtesy to people: a full disk must not keep a member from starting
    return lock
