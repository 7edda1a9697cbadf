"""Who belongs to the cluster, since when, and who has to heal first (R9).

An epoch document says it where an operator gives one; else whoever passes TLS belongs. The greatest epoch number wins,
wherever it is learnt from. Without a document (static peers) every sender of the same cluster is served, and crate
nodes, which name neither cluster nor themselves, are too. Where peers are *discovered*, by DNS, the others are those
heard or seen so far, and nobody knows who else there is: the membership is not complete.

*Admission* is the epoch that last let a name in. A volume that has not healed since its admission may hold what others
have forgotten, so it is not trusted until it has. Comparing two numbers was preferred to a flag set on removal: a
member that was down, or replaced, while it was removed and let in again finds out just the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from wavekv.core.messages import Envelope
from wavekv.errors import EpochConflict, ForeignCluster, NotAMember, StaleEpoch, StaticPeers

MEMBERS_MAX = 1000
EPOCH_MAX = 2**53
"""Greatest epoch number: what JSON carries exactly."""


def fits(members: Sequence[str]) -> bool:
    """Tell whether the names can be a membership: 1 … MEMBERS_MAX different ones, none empty."""
    return 0 < len(set(members)) == len(members) <= MEMBERS_MAX and all(members)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One membership document.

    Attributes:
        number: greater is newer.
        members: the names that belong.
        bootstrap: these are a new cluster's first members, who have nobody to heal from.
        admitted: member name → epoch that last admitted it; None where nobody said (a peer's message names no such).
        inferred: `admitted` was concluded from an older epoch; the document of this number may correct it.
    """

    number: int
    members: tuple[str, ...]
    bootstrap: bool = False
    admitted: Mapping[str, int] | None = None
    inferred: bool = False

    def following(self, known: "Epoch | None") -> "Epoch":
        """Return this epoch with its admissions: as told, else the known ones, and its own number for new names."""
        if self.admitted is not None:
            return self
        before = (known.admitted or {}) if known else {}
        admitted = {name: before.get(name, self.number) for name in self.members}
        return replace(self, admitted=admitted, inferred=True)


class Membership:
    """The newest epoch known here, None in static mode, and the admission that this volume has healed for."""

    def __init__(
        self,
        own_name: str,
        cluster_id: str | None,
        epoch: Epoch | None,
        peers: tuple[str, ...],
        healed_epoch: int | None = None,
        *,
        discovers: bool = False,
    ) -> None:
        self.own_name = own_name
        self.cluster_id = cluster_id
        self.healed_epoch = healed_epoch
        """Admission that this volume has healed for; None: it never had to yet."""
        self.epoch: Epoch | None = None
        self._names: frozenset[str] = frozenset()
        self._static = tuple(name for name in peers if name != own_name)
        self._discovers = discovers
        self._looked = False
        if epoch is not None:
            self._set(epoch.following(None))

    def _set(self, epoch: Epoch) -> None:
        self.epoch, self._names = epoch, frozenset(epoch.members)

    @property
    def complete(self) -> bool:
        """Tell whether these are all members there can be; while False, nothing may depend on having asked all."""
        return self.epoch is not None or not self._discovers

    @property
    def discovers(self) -> bool:
        """Tell whether peers are looked for beside those that are named."""
        return self._discovers

    def discovered(self, names: Sequence[str]) -> None:
        """Take the names of those that were found so far, an address standing for a name not told yet."""
        self._looked = True
        self._static = tuple(name for name in names if name != self.own_name)

    def has_others(self) -> bool:
        """Tell whether there is somebody to heal from, or may be: nobody was looked for yet."""
        return bool(self.others()) or not (self.complete or self._looked)

    def members(self) -> tuple[str, ...]:
        """Return the names of the newest epoch; in static mode this member and its peers."""
        return (self.own_name, *self._static) if self.epoch is None else self.epoch.members

    def others(self) -> tuple[str, ...]:
        """Return the names of the other members."""
        return tuple(name for name in self.members() if name != self.own_name)

    def speaks_to(self, name: str) -> bool:
        """Tell whether exchanges may go to `name`: only members of the newest epoch known (R3)."""
        return self.epoch is None or (self.included() and name in self._names)

    def included(self) -> bool:
        """Tell whether this member belongs to the newest epoch; a removed one serves nobody and says so."""
        return self.epoch is None or self.own_name in self._names

    # ---- admission -------------------------------------------------------------------------------------------------

    def admission(self) -> int:
        """Return the epoch that last admitted this member: 0 if the newest leaves it out, 1 in static mode."""
        if self.epoch is None:
            return 1
        assert self.epoch.admitted is not None, "an epoch is completed before it is taken"
        return self.epoch.admitted.get(self.own_name, 0) if self.included() else 0

    def must_heal(self) -> bool:
        """Tell whether this volume was admitted, or found damaged, after it last healed, and has others to heal from.

        In static mode only a damaged one has to. A new one does not where the epoch founds the cluster.
        """
        if self.epoch is None:
            return self.healed_epoch == 0 and self.has_others()
        if self.healed_epoch is None and self.epoch.bootstrap:
            return False
        return self.admission() > (self.healed_epoch or 0) and bool(self.others())

    def distrust(self) -> None:
        """The volume lost something: whatever it had healed for is void."""
        self.healed_epoch = 0

    def healed(self) -> None:
        """The volume has healed, or did not have to."""
        self.healed_epoch = self.admission()

    # ---- newer epochs ----------------------------------------------------------------------------------------------

    def learn(self, epoch: Epoch) -> bool:
        """Take `epoch` if it is newer; tell whether it was."""
        if self.epoch is not None and epoch.number <= self.epoch.number:
            return False
        self._set(epoch.following(self.epoch))
        return True

    def take(self, epoch: Epoch) -> bool:
        """Take the document an operator hands over; tell whether it says anything new.

        Raises:
            StaleEpoch: a newer one is known.
            EpochConflict: another document of that number is known.
            StaticPeers: this member has no epochs.
        """
        known = self.epoch
        if known is None:
            raise StaticPeers("this member was started without --membership: its peers are those of its flags")
        if epoch.number < known.number:
            raise StaleEpoch(f"epoch {epoch.number} is older than this member's, which is {known.number}")
        if epoch.number > known.number:
            return self.learn(epoch)
        if frozenset(epoch.members) != self._names:
            raise EpochConflict(f"this member knows other members of epoch {known.number}; give a new number")
        if known.inferred and epoch.admitted is not None:
            self._set(epoch)
            return True
        told = epoch.following(known)
        if not known.inferred and (told.admitted, told.bootstrap) != (known.admitted, known.bootstrap):
            raise EpochConflict(f"this member knows another document of epoch {known.number}; give a new number")
        return False

    def _learn_from(self, message: Envelope) -> None:
        """Take the epoch of `message` if it can be one: an empty or endless one would lock this member out for good."""
        number, members = message.epoch, message.members
        if number is None or members is None or self.epoch is None or message.cluster_id != self.cluster_id:
            return
        known = message.name in members or message.name in self._names
        if known and number <= EPOCH_MAX and fits(members):
            self.learn(Epoch(number, members))

    def admit(self, message: Envelope) -> None:
        """Check that the sender of `message` may be listened to, and learn a newer epoch from it.

        Raises:
            ForeignCluster: the sender names another cluster.
            NotAMember: the newest epoch leaves out the sender, or this member.
        """
        if message.cluster_id is not None and self.cluster_id is not None and message.cluster_id != self.cluster_id:
            raise ForeignCluster(f"this member is of cluster {self.cluster_id}, the sender of {message.cluster_id}")
        if self.epoch is None:
            if message.members is not None and self.own_name not in message.members:
                raise NotAMember(f"the sender's epoch {message.epoch} does not hold this member, {self.own_name}")
            return
        self._learn_from(message)
        if message.name not in self._names:
            raise NotAMember(f"{message.name or 'a sender without a name'} is not in epoch {self.epoch.number}")
        if not self.included():
            raise NotAMember(f"this member, {self.own_name}, is not in epoch {self.epoch.number}")
