"""Who belongs to the cluster (R9): an epoch document where an operator gives one, else whoever passes TLS.

The greatest epoch number wins, wherever it is learnt from. Without a document (static peers) every sender of the same
cluster is served, and crate nodes, which name neither cluster nor themselves, are too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wavekv.core.messages import Envelope
from wavekv.errors import ForeignCluster, NotAMember

MEMBERS_MAX = 1000
EPOCH_MAX = 2**53
"""Greatest epoch number: what JSON carries exactly."""


def fits(members: Sequence[str]) -> bool:
    """Tell whether the names can be a membership: 1 … MEMBERS_MAX different ones, none empty."""
    return 0 < len(set(members)) == len(members) <= MEMBERS_MAX and all(members)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One membership document: its number, the member names, and whether these are a new cluster's first members."""

    number: int
    members: tuple[str, ...]
    bootstrap: bool = False


class Membership:
    """The newest epoch known here, None in static mode."""

    def __init__(self, own_name: str, cluster_id: str | None, epoch: Epoch | None, peers: tuple[str, ...]) -> None:
        self.own_name = own_name
        self.cluster_id = cluster_id
        self.epoch = epoch
        self._static = tuple(name for name in peers if name != own_name)

    def others(self) -> tuple[str, ...]:
        """Return the names of the other members."""
        if self.epoch is None:
            return self._static
        return tuple(name for name in self.epoch.members if name != self.own_name)

    def speaks_to(self, name: str) -> bool:
        """Tell whether exchanges may go to `name`: only members of the newest epoch known (R3)."""
        return self.epoch is None or (self.included() and name in self.epoch.members)

    def included(self) -> bool:
        """Tell whether this member belongs to the newest epoch; a removed one serves nobody and says so."""
        return self.epoch is None or self.own_name in self.epoch.members

    def learn(self, epoch: Epoch) -> bool:
        """Take `epoch` if it is newer; tell whether it was."""
        if self.epoch is not None and epoch.number <= self.epoch.number:
            return False
        self.epoch = epoch
        return True

    def _learn_from(self, message: Envelope) -> None:
        """Take the epoch of `message` if it can be one: an empty or endless one would lock this member out for good."""
        number, members = message.epoch, message.members
        if number is None or members is None or self.epoch is None or message.cluster_id != self.cluster_id:
            return
        known = message.name in members or message.name in self.epoch.members
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
        if message.name not in self.epoch.members:
            raise NotAMember(f"{message.name or 'a sender without a name'} is not in epoch {self.epoch.number}")
        if not self.included():
            raise NotAMember(f"this member, {self.own_name}, is not in epoch {self.epoch.number}")
