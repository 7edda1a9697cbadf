"""What a member believes beyond a connection: signed epochs that others hand on, and claims of processes of its name.

The real `core.membership.Verifier` and `ports.Claims`. Signatures are read in a thread, and only where they matter: an
epoch's when its number is above the known one, and for each sender now and then. The core then asks for what was found;
so it stays a function of its arguments, and the loop waits for no elliptic curve.
"""

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Final

from wavekv.config import TlsFiles
from wavekv.core.membership import Epoch, Membership
from wavekv.core.messages import Envelope
from wavekv.ports import Clock

log = logging.getLogger(__name__)

_SPACING_SECONDS: Final = 1.0
"""Least time between two documents of one sender that are looked at; an honest one sends one, which then is known."""
_SENDERS_MAX: Final = 4096
_FOUND_MAX: Final = 4
"""Documents that were found good and are remembered until the core has asked: two stores, two directions."""


class SignedEpochs:
    """Reads the signed documents in messages, one at a time."""

    def __init__(self, bundle: Path, cluster_id: str | None, clock: Clock) -> None:
        """Believe the authorities in `bundle`."""
        self.membership: Membership | None = None
        """Of the member that documents are read for: it tells which may be news. None: none is read yet."""
        self._bundle = bundle
        self._cluster_id = cluster_id
        self._clock = clock
        self._tried: dict[str, float] = {}
        self._found: dict[bytes, Epoch] = {}
        self._busy = False

    def verified(self, document: bytes, sender: str) -> Epoch | None:
        """Return the epoch of a document that was looked at and found good."""
        del sender
        return self._found.get(hashlib.sha256(document).digest())

    async def look(self, message: Envelope) -> None:
        """Look at the document of a message, if it may be news; its sender has been checked."""
        document, number = message.epoch_doc, message.epoch
        if document is None or number is None or self.membership is None or not self.membership.may_learn(number):
            return
        digest = hashlib.sha256(document).digest()
        sender, now = message.name or "", self._clock.monotonic()
        if self._busy or digest in self._found or now < self._tried.get(sender, now - 1) + _SPACING_SECONDS:
            return
        self._tried.pop(sender, None)
        self._tried[sender] = now
        if len(self._tried) > _SENDERS_MAX:
            del self._tried[next(iter(self._tried))]
        self._busy = True
        try:
            epoch = await asyncio.to_thread(self._read, document)
        finally:
            self._busy = False
        if epoch is None:
            log.warning("%s hands on an epoch %d that the cluster's authority did not sign", sender, number)
            return
        self._found[digest] = epoch
        if len(self._found) > _FOUND_MAX:
            del self._found[next(iter(self._found))]

    def _read(self, document: bytes) -> Epoch | None:
        from wavekv.peers.signatures import signed_epoch  # noqa: PLC0415 - a tenth of a second, seldom needed

        return signed_epoch(document, self._bundle, self._cluster_id)


class SignedClaims:
    """Makes and reads claims with the files of this member."""

    def __init__(self, files: TlsFiles, cluster_id: str | None, name: str) -> None:
        self._files = files
        self._cluster_id = cluster_id
        self._name = name

    async def make(self, inc: int) -> bytes | None:
        """Return the statement of this process; None: the files cannot be used for it."""
        return await asyncio.to_thread(self._make, inc)

    def _make(self, inc: int) -> bytes | None:
        from wavekv.peers.signatures import make_claim  # noqa: PLC0415

        try:
            return make_claim(self._files.cert, self._files.key, self._cluster_id, self._name, inc)
        except (OSError, ValueError) as error:
            log.warning("cannot sign for an older process of this name that still runs: %s", error)
            return None

    async def holds(self, claim: str, inc: int) -> bool:
        """Tell whether `claim` is a statement of process `inc` of this member's own name."""
        return await asyncio.to_thread(self._holds, claim, inc)

    def _holds(self, claim: str, inc: int) -> bool:
        from wavekv.peers.signatures import claim_holds  # noqa: PLC0415

        return claim_holds(claim, self._files.ca, self._cluster_id, self._name, inc)
