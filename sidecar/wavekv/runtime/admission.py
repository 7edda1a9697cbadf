"""This member's standing in its cluster: newest epoch, admission and drain mark, in memory and in the directory (R9).

What is decided holds in memory at once and is told only when `keep` has made it durable. A drain is marked with the
admission that it ends, so a newer admission voids the mark by itself, also while the member was down.
"""

import asyncio
import logging

from wavekv.config import PeerAddress
from wavekv.core.membership import EPOCH_JUMP_MAX, Epoch, Membership, Verifier
from wavekv.errors import EpochConflict, ForeignCluster, StaticPeers
from wavekv.runtime.discovery import Discovery
from wavekv.runtime.epoch_file import EpochDocument, EpochFile, Kept, addresses

log = logging.getLogger(__name__)


class Admission:
    """The membership, how its members are reached, and whether this one is to leave it."""

    def __init__(
        self,
        membership: Membership,
        file: EpochFile,
        *,
        peers: tuple[PeerAddress, ...] = (),
        peer_url: str | None = None,
        draining: int | None = None,
        discovery: Discovery | None = None,
    ) -> None:
        self.membership = membership
        self._file = file
        self._peers = peers
        self._peer_url = peer_url
        self._draining = draining
        self.discovery = discovery
        self._kept: Kept | None = None
        self._keeping = asyncio.Lock()

    @property
    def draining(self) -> bool:
        """Tell whether a drain was asked for, and this member was not admitted anew since."""
        return self._draining is not None and self._draining >= self.membership.admission()

    def addresses(self) -> tuple[PeerAddress, ...]:
        """Return where the members are: as the flags say, else as the document does, else whom DNS found."""
        epoch = self.membership.epoch
        given = self._peers if self._peers or epoch is None else addresses(epoch, self._url)
        return self.discovery.peers() if not given and self.discovery is not None else given

    @property
    def _url(self) -> str | None:
        """How members are reached: as the epoch says that a member handed on, else as the last document given here."""
        epoch = self.membership.epoch
        return epoch.peer_url if epoch is not None and epoch.peer_url is not None else self._peer_url

    def look_around(self) -> None:
        """Take note of who was discovered."""
        assert self.discovery is not None, "nobody discovers without it"
        if self.discovery.resolved:
            self.membership.discovered([peer.name for peer in self.discovery.peers()])

    # ---- changes, in memory ----------------------------------------------------------------------------------------

    def take(self, document: EpochDocument) -> bool:
        """Take a document of the operator; tell whether it says anything new.

        Raises:
            ForeignCluster: it is of another cluster.
            StaleEpoch, EpochConflict, EpochJump, StaticPeers: as `Membership.take`.
        """
        membership = self.membership
        self._check_cluster(document)
        known = membership.epoch
        again = known is not None and known.number == document.epoch.number and not known.inferred
        if again and document.peer_url != self._url:
            number = document.epoch.number
            raise EpochConflict(f"this member knows another peer_url of epoch {number}; give a new number")
        taken = membership.take(document.epoch)
        if taken:
            self._peer_url = document.peer_url
        return taken

    def override(self, document: EpochDocument, now_ms: int) -> bool:
        """Take a document that the operator insists on; tell whether it overrode what was known.

        Raises:
            ForeignCluster: it is of another cluster.
            StaticPeers: as `Membership.override`.
        """
        membership = self.membership
        self._check_cluster(document)
        before, restarts = membership.overridden, membership.restarts
        if membership.override(document.epoch, now_ms):
            self._peer_url = document.peer_url
        if membership.restarts != restarts:
            self._draining = None  # it names an admission by a number that no longer counts
        return membership.overridden is not before

    def _check_cluster(self, document: EpochDocument) -> None:
        cluster_id = self.membership.cluster_id
        if cluster_id is not None and document.cluster_id not in {None, cluster_id}:
            raise ForeignCluster(f"this member is of cluster {cluster_id}, not {document.cluster_id}")

    def drain(self) -> None:
        """Mark that this member is to leave.

        Raises:
            StaticPeers: it has no epoch to leave.
        """
        if self.membership.epoch is None:
            raise StaticPeers("this member was started without --membership: there is no epoch for it to leave")
        self._draining = self.membership.admission()

    def cancel_drain(self) -> None:
        """Take the mark away."""
        self._draining = None

    # ---- on disk ---------------------------------------------------------------------------------------------------

    def _standing(self) -> Kept | None:
        membership = self.membership
        if membership.epoch is None:
            return None
        draining = self._draining if self.draining else None
        return Kept(membership.epoch, self._url, membership.healed_epoch, draining, membership.overridden)

    def keep_now(self) -> None:
        """Make what holds in memory durable. Blocks; for the start of a process.

        Raises:
            DiskFull, DiskFailed: it is not.
        """
        standing = self._standing()
        if standing is not None and standing != self._kept:
            self._file.save(standing)
            self._kept = standing

    async def keep(self) -> None:
        """Return once what holds in memory is durable.

        Raises:
            DiskFull, DiskFailed: it is not.
        """
        async with self._keeping:
            standing = self._standing()
            if standing is not None and standing != self._kept:
                await asyncio.to_thread(self._file.save, standing)
                self._kept = standing


def open_admission(
    own_name: str,
    cluster_id: str | None,
    file: EpochFile,
    document: EpochDocument | None,
    peers: tuple[PeerAddress, ...],
    *,
    founds: bool,
    damaged: bool,
    discovery: Discovery | None = None,
    verifier: Verifier | None = None,
) -> Admission:
    """Return the standing that a starting process finds, durable: the newer of what is kept and the boot `document`.

    Args:
        own_name: Name of this member.
        cluster_id: The cluster of its directory.
        file: Where the directory keeps its epoch.
        document: The operator's copy given at start, None without one.
        peers: Addresses from the flags; in static mode also who the others are.
        founds: This volume founds a cluster, whatever the document says (`--bootstrap`).
        discovery: Finds peers by DNS; None: nothing does.
        verifier: Reads signed epochs that other members hand on; None: none is taken from them.
        damaged: The log lost something that was in it: the volume is not trusted until it has healed again.

    Raises:
        UsageError: the kept file is damaged.
        DiskFull, DiskFailed: the standing could not be kept.
    """
    kept = file.load()
    epoch, peer_url = (kept.epoch, kept.peer_url) if kept else (None, None)
    if document is not None and (kept is None or _follows(document.epoch, kept.epoch)):
        epoch, peer_url = document.epoch.following(kept.epoch if kept else None), document.peer_url
    names = tuple(peer.name for peer in peers)
    healed_epoch = kept.healed_epoch if kept else None
    membership = Membership(
        own_name,
        cluster_id,
        epoch,
        names,
        healed_epoch,
        discovers=discovery is not None,
        crates=[peer.name for peer in peers if peer.crate],
        verifier=verifier,
        overridden=kept.overridden if kept else None,
    )
    if damaged:
        membership.distrust()
    elif membership.included() and (not membership.must_heal() or (founds and membership.healed_epoch is None)):
        membership.healed()
    draining = kept.draining if kept else None
    standing = Admission(membership, file, peers=peers, peer_url=peer_url, draining=draining, discovery=discovery)
    standing.keep_now()
    return standing


def _follows(given: Epoch, kept: Epoch) -> bool:
    """Tell whether a mounted document is to be taken: it is as new as what is kept, and no more than a step ahead."""
    if given.number > kept.number + EPOCH_JUMP_MAX:
        log.error(
            "the --membership file's epoch %d is more than %d ahead of the kept one, %d: it is not taken",
            given.number,
            EPOCH_JUMP_MAX,
            kept.number,
        )
        return False
    return given.number >= kept.number
