"""The membership document: read from an operator's file, kept in the directory, replaced atomically (R9).

    {"cluster_id": UUID, "epoch": 3, "bootstrap": false, "members": ["demo-0", "demo-1"],
     "peer_url": "https://{name}.demo-peers.default.svc:7072"}

`--membership FILE` is the copy given at start; what a newer epoch learnt from a peer says is kept beside the log, so a
restart with an old file does not fall back.
"""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavekv.config import PeerAddress
from wavekv.core.membership import EPOCH_MAX, MEMBERS_MAX, Epoch, fits
from wavekv.errors import UsageError
from wavekv.wal.disk import OS_DISK, disk_error, replace_file

_NAME = "MEMBERSHIP"


@dataclass(frozen=True, slots=True)
class EpochDocument:
    """The document as given: an epoch, the cluster it is of, and how members are reached."""

    epoch: Epoch
    cluster_id: str | None
    peer_url: str | None

    def peers(self, epoch: Epoch) -> tuple[PeerAddress, ...]:
        """Return the addresses of the members of `epoch`; none where the document has no `peer_url`."""
        if self.peer_url is None:
            return ()
        return tuple(PeerAddress(name, self.peer_url.replace("{name}", name)) for name in epoch.members)


def read_document(path: Path) -> EpochDocument:
    """Return the document in `path`.

    Raises:
        UsageError: it is missing, no JSON, or a field is not what it has to be.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the membership {path}: {error}") from error
    return parse_document(raw, str(path))


def parse_document(raw: Any, where: str) -> EpochDocument:
    """Return the document that `raw` (decoded JSON) says.

    Raises:
        UsageError: a field is not what it has to be; the message names it.
    """
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: the membership is no JSON object")
    number, url = raw.get("epoch"), raw.get("peer_url")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= EPOCH_MAX:
        raise UsageError(f"{where}: epoch has to be a whole number in 1 … {EPOCH_MAX}")
    if url is not None and not (isinstance(url, str) and "{name}" in url and url.startswith(("http://", "https://"))):
        raise UsageError(f"{where}: peer_url has to be an http(s) URL with {{name}} in it")
    if not isinstance(raw.get("bootstrap", False), bool):
        raise UsageError(f"{where}: bootstrap has to be true or false")
    epoch = Epoch(number, _members(raw, where), raw.get("bootstrap", False))
    return EpochDocument(epoch, _cluster_id(raw, where), url)


def _members(raw: dict[str, Any], where: str) -> tuple[str, ...]:
    names: Any = raw.get("members")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not fits(names):
        raise UsageError(f"{where}: members has to be a list of 1 … {MEMBERS_MAX} different names")
    return tuple(names)


def _cluster_id(raw: dict[str, Any], where: str) -> str | None:
    text = raw.get("cluster_id")
    if text is None:
        return None
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"{where}: cluster_id has to be a UUID") from error


class EpochFile:
    """The newest epoch this directory has seen, beside the log."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME

    def load(self) -> Epoch | None:
        """Return the kept epoch.

        Raises:
            UsageError: the file is damaged; `--membership` with a newer epoch replaces it once it is removed.
        """
        return read_document(self._path).epoch if self._path.exists() else None

    def save(self, epoch: Epoch) -> None:
        """Keep `epoch` durably. Blocks.

        Raises:
            DiskFull, DiskFailed: it is not kept.
        """
        body = {"epoch": epoch.number, "members": list(epoch.members), "bootstrap": epoch.bootstrap}
        try:
            replace_file(OS_DISK, self._path, json.dumps(body).encode())
        except OSError as error:
            raise disk_error(error, f"keep the membership in {self._path}") from error
