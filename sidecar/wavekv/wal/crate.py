"""What a directory of the original system holds: whose files they are, and the state that they come to. Reads only.

A snapshot, or where it does not decode the backup before it, and the log over it. Every operation of the log counts,
in order: the crate leaves out those that change nothing against the state before the replay, and so brings deleted
keys and removed peers back. Acknowledgements are taken as the 2.x crate takes them, but for those that it drops with a
removed peer; membership is not ours to keep.

Its logs have no group starts, so damage in the midst of one cannot be told from damage at its end by what lies
behind. An incomplete record is a torn tail. Any other bad record ends the log too, and is reported as damage.

Turned down: adopting what a log acknowledges over an older snapshot than its own. The entries between the two are
lost, and a member that covers what it does not hold is never sent it again (R2).
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wavekv.config import VOLUME_LIMITS
from wavekv.core.codec.crate_snapshot import CrateSnapshot, decode_crate_snapshot
from wavekv.core.codec.records import Header
from wavekv.core.ops import (
    AddPeer,
    Clear,
    IncrementSeq,
    Op,
    PushPeerLog,
    RemovePeer,
    Set,
    SetNextSeq,
    UpdateLocalAck,
    UpdatePeerAck,
)
from wavekv.core.types import I64_MIN, U32_MAX, U64_MAX, Entry
from wavekv.errors import ForeignDirectory, NewerVersion, SnapshotDamaged
from wavekv.volume import read_file
from wavekv.wal.segment import MEND, Cause, Sequences, read_header, replay

_NAME: Final = re.compile(r"node_(0|[1-9]\d{0,9})\.(wal|snapshot|snapshot\.bak|wal\.tmp|snapshot\.tmp)")


def is_crate_name(name: str) -> bool:
    """Tell whether the original system calls a file so, one of an unfinished step included."""
    return _NAME.fullmatch(name) is not None


def crate_node_id(name: str) -> int | None:
    """Return the node id in the name of a log or snapshot of the original system, None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and match[2] in ("wal", "snapshot", "snapshot.bak") else None


@dataclass(frozen=True, slots=True)
class CrateFiles:
    """The files of one node in one directory; `names` are all of them, leftovers of unfinished steps included."""

    path: Path
    node_id: int
    names: tuple[str, ...]

    def file(self, suffix: str) -> Path | None:
        """Return the path of `node_{id}.{suffix}`, None where it is absent."""
        name = f"node_{self.node_id}.{suffix}"
        return self.path / name if name in self.names else None


def find_crate_files(path: Path) -> CrateFiles | None:
    """Return what the original system left in `path`; None where it left neither log nor snapshot.

    Raises:
        ForeignDirectory: there are files of two nodes, or of one that no member can be.
    """
    found = sorted(name for name in (entry.name for entry in path.iterdir()) if _NAME.fullmatch(name))
    if all(name.endswith(".tmp") for name in found):
        return None
    nodes = sorted({int(name[5:].split(".")[0]) for name in found})
    if len(nodes) > 1:
        raise ForeignDirectory(
            f"{path} holds files of the original system's nodes {nodes[0]} and {nodes[1]} ({', '.join(found)}); "
            "leave those of one node, and give each other node a directory of its own"
        )
    if not 1 <= nodes[0] <= U32_MAX:
        raise ForeignDirectory(f"{path} holds {found[0]}: a member's node id is 1 … {U32_MAX}, not {nodes[0]}")
    return CrateFiles(path, nodes[0], tuple(found))


@dataclass(slots=True)
class CrateState:
    """What a node of the original system knew.

    Attributes:
        node_id: The node's.
        entries: By key, tombstones included.
        acks: Origin to what is proven to be covered of it, the own origin included.
        next_seq: Above every own sequence ever seen.
        floor: The greatest timestamp that the log cleared, `I64_MIN` without one (R1).
        base: Which file the log was read over: "snapshot", "backup" or "nothing".
        records: Records of the log that count.
        cut_bytes: Bytes at the log's end that do not.
        damage: What is lost or may be, for people; None for a torn tail and for files that are whole.
    """

    node_id: int
    entries: dict[str, Entry] = field(default_factory=dict)
    acks: dict[int, int] = field(default_factory=dict)
    next_seq: int = 1
    floor: int = I64_MIN
    base: str = "nothing"
    records: int = 0
    cut_bytes: int = 0
    damage: str | None = None

    # ---- the fold ----

    def load(self, snapshot: CrateSnapshot) -> None:
        """Begin with what a snapshot says."""
        self.entries = snapshot.entries
        self._raise_next_seq(snapshot.next_seq)
        for origin, peer in snapshot.peers.items():
            self._acknowledge(origin, peer.local_ack)
        for entry in self.entries.values():
            self._used(entry)

    def apply(self, op: Op) -> None:
        """Fold one record of the log.

        Raises:
            NewerVersion: an operation that the original system does not have.
        """
        self.records += 1
        match op:
            case Set(entry):
                self.entries[entry.key] = entry
                self._used(entry)
            case Clear(key):
                held = self.entries.pop(key, None)
                self.floor = self.floor if held is None else max(self.floor, held.timestamp)
            case UpdateLocalAck(origin, ack):
                self._acknowledge(origin, ack)
            case PushPeerLog(origin, entry):
                self._acknowledge(origin, entry.seq)
                self._used(entry)
            case IncrementSeq():
                self._raise_next_seq(self.next_seq + 1)
            case SetNextSeq(seq):
                self._raise_next_seq(seq)
            case AddPeer() | RemovePeer() | UpdatePeerAck():
                # Whom the node exchanged with, and what it heard of them. Who leaves takes no entries away, so what
                # was covered of its origin still is.
                pass
            case _:
                raise NewerVersion(
                    f"the log holds {type(op).__name__}, which no node of the original system writes; "
                    "start the version that wrote it, or restore a copy"
                )

    def _acknowledge(self, origin: int, ack: int) -> None:
        self.acks[origin] = max(self.acks.get(origin, 0), ack)
        if origin == self.node_id:
            self._raise_next_seq(ack + 1)

    def _used(self, entry: Entry) -> None:
        if entry.origin == self.node_id:
            self._raise_next_seq(entry.seq + 1)

    def _raise_next_seq(self, seq: int) -> None:
        self.next_seq = min(max(self.next_seq, seq), U64_MAX)


def read_crate(files: CrateFiles) -> CrateState:
    """Return what `files` come to. Changes nothing.

    Raises:
        BadHeader: a file is none of the original system's.
        NewerVersion: a later version wrote one.
        ForeignDirectory: one is of another node.
        OSError: one cannot be read.
    """
    state = CrateState(files.node_id)
    whole = _read_base(files, state)
    proven = dict(state.acks)
    log = files.file("wal")
    if log is not None:
        _read_log(log, state)
    if whole and state.next_seq > 1:
        state.acks[state.node_id] = state.next_seq - 1
    elif not whole:
        state.acks = proven
    state.entries = dict(sorted(state.entries.items()))
    return state


def _read_base(files: CrateFiles, state: CrateState) -> bool:
    """Load the snapshot, or the backup; tell whether the log goes on from what was loaded."""
    snapshot, backup = files.file("snapshot"), files.file("snapshot.bak")
    if snapshot is not None and _load(snapshot, state):
        state.base = "snapshot"
        return True
    if backup is not None and _load(backup, state):
        state.base = "backup"
    return snapshot is None and backup is None


def _load(file: Path, state: CrateState) -> bool:
    try:
        state.load(decode_crate_snapshot(read_file(file, VOLUME_LIMITS.crate_file_bytes_max), str(file), state.node_id))
    except SnapshotDamaged as error:
        state.damage = error.detail
        return False
    return True


def _read_log(file: Path, state: CrateState) -> None:
    data = read_file(file, VOLUME_LIMITS.crate_file_bytes_max)
    header = crate_header(data, file, state.node_id)
    if header is None:
        state.cut_bytes = len(data)
        return
    found = replay(data, header, state.apply, Sequences()).damage
    if found is None:
        return
    if found.cause is Cause.UNKNOWN_OP:
        raise NewerVersion(
            f"{file} holds, at {found.offset}, an operation this version does not know; "
            "start the version that wrote it, or restore a copy"
        )
    state.cut_bytes = len(data) - found.offset
    if found.cause is not Cause.TORN_TAIL:
        told = f"{found.cause} in {file} at {found.offset}"
        state.damage = told if state.damage is None else f"{state.damage}; {told}"


def crate_header(data: bytes, file: Path, node_id: int, mend: str = MEND) -> Header | None:
    """Return the header of a node's log; None if the file ends inside it, so that nothing was ever acknowledged.

    `mend` as in `read_header`.

    Raises:
        BadHeader, NewerVersion: as `read_header`.
        ForeignDirectory: it is another node's.
    """
    header = read_header(data, str(file), mend)
    if header is not None and header.node_id != node_id:
        raise ForeignDirectory(f"{file} is of node {header.node_id}, not of node {node_id}; move it away")
    return header
