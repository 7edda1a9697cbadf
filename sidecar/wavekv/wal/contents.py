"""What the data directory of a stopped member comes to, for tools. Reads only, and takes nothing that is in doubt.

The caller holds the directory's lock. A torn tail was never acknowledged and is left out, as a start would do; damage
in what was durable is refused, because a start heals it and a reader cannot.
"""

from dataclasses import dataclass
from pathlib import Path

from wavekv.core.loading import loader_over
from wavekv.core.standing import Standing
from wavekv.errors import Corruption, ForeignDirectory, StorageError
from wavekv.snapshot.files import newest
from wavekv.snapshot.reading import load
from wavekv.wal.conversion import MARKER
from wavekv.wal.crate import find_crate_files
from wavekv.wal.directory import IDENTITY, Identity, read_identity_file
from wavekv.wal.reading import NOTHING, Folded, read_log

HEAL_FIRST = (
    "start the member beside its peers so that it heals, then stop it. Without peers it starts with what lies before "
    "the damage: copy the directory first"
)
_CHANGES = 1
"""Changes remembered while reading: nobody asks for them."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Packed entries by key, in no order, and the standing of the same moment."""

    identity: Identity
    packed: dict[str, bytes]
    standing: Standing


def read_directory(path: Path) -> Contents:
    """Return what the directory at `path` holds.

    Raises:
        StorageError: it is no directory of a member, or not yet one.
        Corruption, SnapshotDamaged: its identity, log or newest snapshot is damaged.
        BadHeader, ForeignDirectory, NewerVersion: as `read_log`.
        OSError: a file cannot be read.
    """
    identity = read_identity(path)
    image, behind = None, NOTHING
    held = newest(path)
    if held is not None:
        head, image = load(held.path)
        if head.node_id != identity.node_id:
            raise ForeignDirectory(f"{held.path} is of node {head.node_id}, not of node {identity.node_id}")
        behind = Folded(held.number, head.position)
    loader = loader_over(_CHANGES, image)
    log = read_log(path, identity.node_id, loader.apply, stored=loader.stored, fold=loader.stored_run, behind=behind)
    if log.corrupt is not None:
        raise Corruption(f"the log in {path} is damaged ({log.cause}); {HEAL_FIRST}")
    store = loader.store()
    return Contents(identity, store.packed, store.standing)


def read_identity(path: Path) -> Identity:
    """Return whose directory `path` is. Raises as `read_directory`."""
    file = path / IDENTITY
    if not path.is_dir():
        raise StorageError(f"{path} is no directory; name the data directory of a member")
    if not file.exists() and find_crate_files(path):
        raise StorageError(f"{path} holds the original system's own files; a member makes them its own when it starts")
    if not file.exists():
        raise StorageError(f"{path} is no data directory: it holds no {IDENTITY}; name that of a member")
    if (path / MARKER).exists():
        raise StorageError(f"{path} is being taken over from the original system; start the member once, then stop it")
    return read_identity_file(file)
