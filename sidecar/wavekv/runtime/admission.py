"""This member's standing in its cluster: newest epoch, admission and drain mark, in memory and in the directory (R9).

What is decided holds in memory at once and is told only when `keep` has made it durable. A drain is marked with the
admission that it ends, so a newer admission voids the mark by itself, also while the member was down.
"""

import asyncio

from wavekv.config import PeerAddress
from wavekv.core.membership import Membership
from wavekv.errors import EpochConflict, ForeignCluster, StaticPeers
from wavekv.runtime.discovery import Discovery
from wavekv.runtime.epoch_file import EpochDocument, EpochFile, Kept, addresses


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
        given = self._peers if self._peers or epoch is None else addresses(epoch, self._peer_url)
        return self.discovery.peers() if not given and self.discovery is not None else given

    def look_around(self) -> None:
        """Take note of who was discovered."""
        assert self.discovery is not None, "nobody discovers without it"
        if self.discovery.resolved:
            self.membership.discovered([peer.name for peer in self.discovery.peers()])

    # ---- changes, in memory ----------------------------------------------------------------------------------------

    def take(self, document: EpochDocument) -> bool:
        """Take a document that the operator pushed; tell whether it says anything new.

        Raises:
            ForeignCluster: it is of another cluster.
            StaleEpoch, EpochConflict, StaticPeers: as `Membership.take`.
        """
        membership = self.membership
        if membership.cluster_id is not None and document.cluster_id != membership.cluster_id:
            raise ForeignCluster(f"this member is of cluster {membership.cluster_id}, not {document.cluster_id}")
        taken = membership.take(document.epoch)
        if taken:
            self._peer_url = document.peer_url
        elif document.peer_url != self._peer_url:
            raise EpochConflict(f"this member knows another peer_url of epoch {document.epoch.number}")
        return taken

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
        return Kept(membership.epoch, self._peer_url, membership.healed_epoch, draining)

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
        damaged: The log lost something that was in it: the volume is not trusted until it has healed again.

    Raises:
        UsageError: the kept file is damaged.
        DiskFull, DiskFailed: the standing could not be kept.
    """
    kept = file.load()
    epoch, peer_url = (kept.epoch, kept.peer_url) if kept else (None, None)
    if document is not None and (kept is None or document.epoch.number >= kept.epoch.number):
        epoch, peer_url = document.epoch.following(kept.epoch if kept else None), document.peer_url
    names = tuple(peer.name for peer in peers)
    healed_epoch = kept.healed_epoch if kept else None
    membership = Membership(own_name, cluster_id, epoch, names, healed_epoch, discovers=discovery is not None)
    if damaged:
        membership.distrust()
    elif membership.included() and (not membership.must_heal() or (founds and membership.healed_epoch is None)):
        membership.healed()
    draining = kept.draining if kept else None
    standing = Admission(membership, file, peers=peers, peer_url=peer_url, draining=draining, discovery=discovery)
    standing.keep_now()
    return standing
