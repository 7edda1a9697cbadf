"""Signed epoch documents without cryptography: a document is genuine if its signature says "operator"."""

import json
from dataclasses import replace

from wavekv.core.membership import Epoch
from wavekv.errors import UsageError
from wavekv.runtime.epoch_file import parse_document


def document(epoch: Epoch, signature: str = "operator", cluster_id: str | None = None) -> bytes:
    """Return the document of `epoch` as members hand it on."""
    admitted = None if epoch.admitted is None or epoch.inferred else dict(epoch.admitted)
    told = {
        "cluster_id": cluster_id,
        "epoch": epoch.number,
        "members": list(epoch.members),
        "bootstrap": epoch.bootstrap,
        "admitted": admitted,
        "peer_url": epoch.peer_url,
        "signature": signature,
    }
    return json.dumps(told).encode()


def signed(epoch: Epoch) -> Epoch:
    """Return `epoch` with its document, which members hand on and others believe."""
    return replace(epoch, signed=document(epoch))


class FakeVerifier:
    """Implements `core.membership.Verifier`; remembers whose documents it read."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def verified(self, document: bytes, sender: str) -> Epoch | None:
        self.asked.append(sender)
        try:
            raw = json.loads(document)
            told = parse_document(raw, "a fake document")
        except (ValueError, UsageError):
            return None
        return told.signed_epoch(document) if raw["signature"] == "operator" else None
