"""The membership document: what one has to say, and how a directory keeps it, replaced atomically (R9).

    {"cluster_id": UUID, "epoch": 3, "bootstrap": false, "members": ["demo-0", "demo-1"],
     "admitted": {"demo-0": 1, "demo-1": 3}, "peer_url": "https://{name}.demo-peers.default.svc:7072",
     "signature": base64}

`--membership FILE` is the copy that is mounted. The newest one known is kept beside the log, so a restart with an old
file does not fall back; with it the facts of this volume that have to outlive its processes: the admission it healed
for, the one it is to leave, and the last override of an epoch.

The `signature` is the cluster authority's, over the canonical JSON of the document without it. Whoever hands the
document on sends it whole, in its canonical form, and is believed by it alone (`peers.proofs`). File and operator are
believed as they are: the one is mounted, the other shows its certificate.
"""

import json
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wavekv.config import VOLUME_LIMITS, PeerAddress
from wavekv.core.codec.envelope import EPOCH_DOC_BYTES_MAX
from wavekv.core.membership import EPOCH_MAX, MEMBERS_MAX, Epoch, Overridden, fits
from wavekv.disk import OS_DISK, disk_error, replace_file
from wavekv.errors import UsageError
from wavekv.volume import parse_json, read_file

_NAME = "MEMBERSHIP"


@dataclass(frozen=True, slots=True)
class EpochDocument:
    """The document as given: an epoch, the cluster it is of, and how members are reached."""

    epoch: Epoch
    cluster_id: str | None
    peer_url: str | None

    def signed_epoch(self, document: bytes) -> Epoch:
        """Return the epoch with the signed `document` it was read from, as it is handed on, and its `peer_url`."""
        return replace(self.epoch, signed=document, peer_url=self.peer_url)


def canonical(raw: dict[str, Any]) -> bytes:
    """Return what the signature of a document is over: its JSON in one form, without the signature."""
    return _one_form({name: value for name, value in raw.items() if name != "signature"})


def _one_form(raw: dict[str, Any]) -> bytes:
    return json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def addresses(epoch: Epoch, peer_url: str | None) -> tuple[PeerAddress, ...]:
    """Return where the members of `epoch` are; none without a `peer_url`."""
    if peer_url is None:
        return ()
    return tuple(PeerAddress(name, peer_url.replace("{name}", name)) for name in epoch.members)


def read_document(path: Path) -> EpochDocument:
    """Return the document in `path`.

    Raises:
        UsageError: it is missing, no JSON, or a field is not what it has to be.
        UnusableFile: it is no regular file, or too long.
    """
    return parse_document(_read_json(path, named=True), str(path))


def _read_json(path: Path, *, named: bool = False) -> Any:
    try:
        return parse_json(read_file(path, VOLUME_LIMITS.membership_bytes_max, named=named))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the membership {path}: {error}") from error


def parse_document(raw: Any, where: str) -> EpochDocument:
    """Return the document that `raw` (decoded JSON) says.

    Raises:
        UsageError: a field is not what it has to be; the message names it.
    """
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: the membership is no JSON object")
    number: Any = raw.get("epoch")
    url: Any = raw.get("peer_url")
    if _epoch_number(number, 1, EPOCH_MAX) is None:
        raise UsageError(f"{where}: epoch has to be a whole number in 1 … {EPOCH_MAX}")
    if url is not None and not (isinstance(url, str) and "{name}" in url and url.startswith(("http://", "https://"))):
        raise UsageError(f"{where}: peer_url has to be an http(s) URL with {{name}} in it")
    for flag in ("bootstrap", "inferred"):
        if not isinstance(raw.get(flag, False), bool):
            raise UsageError(f"{where}: {flag} has to be true or false")
    members = _members(raw, where)
    admitted = _admitted(raw, members, number, where)
    epoch = Epoch(
        number, members, raw.get("bootstrap", False), admitted, raw.get("inferred", False), _signed(raw, where)
    )
    return EpochDocument(epoch, _cluster_id(raw, where), url)


def _signed(raw: dict[str, Any], where: str) -> bytes | None:
    """Return the document as it is handed on, None without a signature or where it is longer than a message takes."""
    signature = raw.get("signature")
    if signature is None:
        return None
    if not isinstance(signature, str):
        raise UsageError(f"{where}: signature has to be a text, in base64")
    document = _one_form(raw)
    return document if len(document) <= EPOCH_DOC_BYTES_MAX else None


def _members(raw: dict[str, Any], where: str) -> tuple[str, ...]:
    names: Any = raw.get("members")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not fits(names):
        raise UsageError(f"{where}: members has to be a list of 1 … {MEMBERS_MAX} different names")
    return tuple(names)


def _admitted(raw: dict[str, Any], members: tuple[str, ...], number: int, where: str) -> dict[str, int] | None:
    """Return the members' admissions, None where the document leaves them out; names of others are dropped."""
    given: Any = raw.get("admitted")
    if given is None:
        return None
    if not isinstance(given, dict) or any(_epoch_number(given.get(name), 1, number) is None for name in members):
        raise UsageError(f"{where}: admitted has to name each member with the epoch that admitted it, 1 … {number}")
    return {name: given[name] for name in members}


def _epoch_number(value: Any, least: int, greatest: int) -> int | None:
    """Return `value` if it is a whole number in the range, else None."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and least <= value <= greatest else None


def _cluster_id(raw: dict[str, Any], where: str) -> str | None:
    text = raw.get("cluster_id")
    if text is None:
        return None
    try:
        return str(uuid.UUID(text))
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"{where}: cluster_id has to be a UUID") from error


@dataclass(frozen=True, slots=True)
class Kept:
    """What a directory keeps of its membership."""

    epoch: Epoch
    peer_url: str | None = None
    healed_epoch: int | None = None
    """Admission the volume has healed for; None: it never had to yet, 0: it lost something since."""
    draining: int | None = None
    """Admission that a drain is to end; None: no drain was asked for."""
    overridden: Overridden | None = None
    """The last override of an epoch; None: there was none."""


class EpochFile:
    """The newest epoch this directory has seen, beside the log."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME

    def load(self) -> Kept | None:
        """Return what is kept, None in a directory that never had an epoch.

        Raises:
            UsageError: the file is damaged; `--membership` with a newer epoch replaces it once it is removed.
        """
        if not os.path.lexists(self._path):
            return None
        raw = _read_json(self._path)
        document = parse_document(raw, str(self._path))
        facts = {name: raw.get(name) for name in ("healed_epoch", "draining")}
        for name, value in facts.items():
            if value is not None and _epoch_number(value, 0, EPOCH_MAX) is None:
                raise UsageError(f"{self._path}: {name} has to be an epoch number")
        epoch = replace(document.epoch, signed=self._kept_document(raw))
        return Kept(epoch, document.peer_url, **facts, overridden=self._kept_override(raw))

    def _kept_document(self, raw: dict[str, Any]) -> bytes | None:
        document = raw.get("document")
        if document is not None and not isinstance(document, str):
            raise UsageError(f"{self._path}: document has to be a text")
        return None if document is None else document.encode()

    def _kept_override(self, raw: dict[str, Any]) -> Overridden | None:
        told: Any = raw.get("overridden")
        if told is None:
            return None
        epoch, before, at_ms = (
            _epoch_number(told.get(name), 0, EPOCH_MAX) if isinstance(told, dict) else None
            for name in ("epoch", "from", "at_ms")
        )
        if epoch is None or before is None or at_ms is None:
            raise UsageError(f"{self._path}: overridden has to name epoch, from and at_ms")
        return Overridden(epoch, before, at_ms)

    def save(self, kept: Kept) -> None:
        """Keep `kept` durably. Blocks.

        Raises:
            DiskFull, DiskFailed: it is not kept.
        """
        epoch = kept.epoch
        body = {
            "epoch": epoch.number,
            "members": list(epoch.members),
            "bootstrap": epoch.bootstrap,
            "admitted": dict(epoch.admitted) if epoch.admitted is not None else None,
            "inferred": epoch.inferred,
            "peer_url": kept.peer_url,
            "healed_epoch": kept.healed_epoch,
            "draining": kept.draining,
            "document": epoch.signed.decode() if epoch.signed is not None else None,
            "overridden": _override_out(kept.overridden),
        }
        try:
            replace_file(OS_DISK, self._path, json.dumps(body).encode())
        except OSError as error:
            raise disk_error(error, f"keep the membership in {self._path}") from error


def _override_out(overridden: Overridden | None) -> dict[str, int] | None:
    if overridden is None:
        return None
    return {"epoch": overridden.epoch, "from": overridden.before, "at_ms": overridden.at_ms}
