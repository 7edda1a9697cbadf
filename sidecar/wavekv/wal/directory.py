"""Who a data directory belongs to, and that one process at a time uses it: `LOCK` and `IDENTITY`.

Invariants:
- A refused directory is left as it was found: everything that can be refused is looked at before the first change.
- The boot count is raised, durably, before anything else of the process (ephemeral sequences start from it, and a
  process that is not the directory's first never writes under the node id, G8).
- `IDENTITY` holds its old content or its new, whatever happens in between.

Turned down: a pid file as the lock, which outlives its process; the kernel drops an flock for us.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from wavekv.core.types import U32_MAX
from wavekv.disk import OS_DISK, Disk, disk_error, replace_file
from wavekv.errors import (
    Corruption,
    DirectoryInUse,
    DirectoryUnusable,
    ForeignDirectory,
    NewerVersion,
    UsageError,
)

FORMAT: Final = 1
IDENTITY: Final = "IDENTITY"
LOCK: Final = "LOCK"
_HARMLESS: Final = (LOCK, f"{IDENTITY}.tmp", "lost+found")
"""What a directory may hold that is to become ours: our own first steps, and what a file system puts on a volume."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is born with a directory, and the number of process starts on it so far."""

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

    @property
    def first_process(self) -> bool:
        """Tell whether this is the first process on the directory, the one that writes under the node id (R7)."""
        return self.identity.boot_count == 1

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
    disk: Disk = OS_DISK,
) -> DataDirectory:
    """Open or create the data directory, lock it, and count this process start.

    Args:
        path: The directory; it and its parents are made where absent.
        node_id: The id for a new directory (None: drawn by `new_node_id`); an existing one must have it.
        cluster_id: The cluster the member belongs to; adopted by a directory that has none yet.
        now_ms: Creation time for a new identity.
        new_node_id: Draws a node id, 1 … 2^32-1.
        new_uuid: Draws the directory's uuid.
        disk: The system calls.

    Raises:
        UsageError: `node_id` is out of range.
        DirectoryUnusable: not a directory, or not writable.
        DirectoryInUse: another process has it open.
        ForeignDirectory: it belongs to another cluster, node or program.
        NewerVersion: a newer version wrote it.
        Corruption: its identity cannot be read.
        DiskFull, DiskFailed: the identity could not be written.
    """
    if node_id is not None and not 1 <= node_id <= U32_MAX:
        raise UsageError(f"node id {node_id} is outside 1 … {U32_MAX}")
    try:
        if not path.exists():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk.sync_dir(path.parent)
        _inspect(path, node_id, cluster_id)
        lock = _lock(path)
    except OSError as error:
        raise disk_error(error, f"open the data directory {path}") from error
    try:
        held = _inspect(path, node_id, cluster_id)
        if held is None:
            chosen = new_node_id() if node_id is None else node_id
            identity = Identity(FORMAT, chosen, new_uuid(), cluster_id, 1, now_ms)
        else:
            identity = replace(held, cluster_id=held.cluster_id or cluster_id, boot_count=held.boot_count + 1)
        replace_file(disk, path / IDENTITY, encode_identity(identity))
    except OSError as error:
        os.close(lock)
        raise disk_error(error, f"write {path / IDENTITY}") from error
    except BaseException:
        os.close(lock)
        raise
    return DataDirectory(path, identity, held is None, lock)


def encode_identity(identity: Identity) -> bytes:
    """Return the content of `IDENTITY`: one JSON object."""
    return json.dumps(asdict(identity) | {"uuid": str(identity.uuid)}, indent=1).encode() + b"\n"


def decode_identity(data: bytes, name: str) -> Identity:
    """Read the content of `IDENTITY`; `name` is the file's for messages.

    Raises:
        NewerVersion: its format is a later one.
        Corruption: it is not what `encode_identity` writes.
    """
    try:
        fields = json.loads(data)
        if isinstance(fields, dict) and type(fields.get("format")) is int and fields["format"] > FORMAT:
            raise NewerVersion(f"{name} has format {fields['format']}, this version reads {FORMAT}; start a newer one")
        identity = Identity(**{**fields, "uuid": uuid.UUID(fields["uuid"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Corruption(f"{name} is damaged ({error}); restore it, or start with an empty directory") from error
    numbers = (identity.format, identity.node_id, identity.boot_count, identity.created_at)
    cluster = identity.cluster_id
    if any(type(number) is not int for number in numbers) or not (cluster is None or isinstance(cluster, str)):
        raise Corruption(
            f"{name} is damaged (a field has the wrong type); restore it, or start with an empty directory"
        )
    if identity.format != FORMAT or not 1 <= identity.node_id <= U32_MAX or identity.boot_count < 1:
        raise Corruption(f"{name} is damaged (a field is out of range); restore it, or start with an empty directory")
    return identity


def _inspect(path: Path, node_id: int | None, cluster_id: str | None) -> Identity | None:
    """Return the identity in `path`, None where a new one may be made; refuse what is not ours."""
    if not path.is_dir():
        raise DirectoryUnusable(f"{path} is not a directory")
    file = path / IDENTITY
    if not file.exists():
        foreign = sorted(entry.name for entry in path.iterdir() if not _harmless(entry))
        if foreign:
            raise ForeignDirectory(
                f"{path} holds {', '.join(foreign[:3])} but no {IDENTITY}: give an empty directory, or restore "
                f"{IDENTITY} if it was ours; data of the original system is brought in with `wavekv import`"
            )
        return None
    identity = decode_identity(file.read_bytes(), str(file))
    if node_id is not None and identity.node_id != node_id:
        raise ForeignDirectory(f"{path} belongs to node {identity.node_id}, not to node {node_id}")
    if cluster_id is not None and identity.cluster_id not in (None, cluster_id):
        raise ForeignDirectory(f"{path} belongs to cluster {identity.cluster_id}, not to cluster {cluster_id}")
    return identity


def _harmless(entry: Path) -> bool:
    return entry.name in _HARMLESS or entry.name.startswith(".") or entry.is_socket()


def _lock(path: Path) -> int:
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    except OSError:
        pass  # the number is a courtesy to people: a full disk must not keep a member from starting
    return lock
