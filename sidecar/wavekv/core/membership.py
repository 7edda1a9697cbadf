"""Who belongs to the cluster, since when, and who has to heal first (R9).

An epoch document says it where an operator gives one. The greatest epoch number wins, wherever it is learnt from; from
another member only as the operator's signed document, for a member speaks for itself alone. Numbers go up in bounded
steps: one far ahead, once taken, would leave no room for those that follow. An operator may override both (`override`).

Without a document (static peers) those that are configured are served, nodes of the original system among them only
where configured as such. Where peers are *discovered*, by DNS, the others are those heard or seen so far, and nobody
knows who else there is: whoever passes TLS is served, and the membership is not complete.

*Admission* is the epoch that last let a name in. A volume that has not healed since its admission may hold what others
have forgotten, so it is not trusted until it has. Comparing two numbers was preferred to a flag set on removal: a
member that was down, or replaced, while it was removed and let in again finds out just the same.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from wavekv.core.messages import Envelope
from wavekv.errors import (
    EpochConflict,
    EpochJump,
    ForeignCluster,
    IdentityMismatch,
    NotAMember,
    StaleEpoch,
    StaticPeers,
)

MEMBERS_MAX = 1000
EPOCH_MAX = 2**53
"""Greatest epoch number: what JSON carries exactly."""
EPOCH_JUMP_MAX = 1_000_000
"""How far above the known number the next one may be. Each change of the members uses one, so a million last a cluster
longer than a lifetime, and 2**53 is never reached by such steps."""


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
        signed: the document with the operator's signature, as it is handed on to other members; None: it has none.
        peer_url: how its members are reached, where a signed document was learnt from another member.
    """

    number: int
    members: tuple[str, ...]
    bootstrap: bool = False
    admitted: Mapping[str, int] | None = None
    inferred: bool = False
    signed: bytes | None = field(default=None, compare=False, repr=False)
    peer_url: str | None = field(default=None, compare=False)

    def following(self, known: "Epoch | None") -> "Epoch":
        """Return this epoch with its admissions: as told, else the known ones, and its own number for new names."""
        if self.admitted is not None:
            return self
        before = (known.admitted or {}) if known else {}
        admitted = {name: before.get(name, self.number) for name in self.members}
        return replace(self, admitted=admitted, inferred=True)


class Overridden(NamedTuple):
    """That an operator overrode an epoch: with which number, what it was, and when (ms)."""

    epoch: int
    before: int
    at_ms: int


class Verifier(Protocol):
    """Reads documents that other members hand on."""

    def verified(self, document: bytes, sender: str) -> Epoch | None:
        """Return the epoch of a document that the cluster's authority signed, as `sender` handed it on.

        None: it is not signed by it, it is of another cluster, or `sender` has had its share of attempts for now.
        """
        ...


class NoVerifier:
    """Takes nobody's word: without TLS there is no authority."""

    def verified(self, document: bytes, sender: str) -> Epoch | None:
        """Return None."""
        return None


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
        crates: Collection[str] = (),
        verifier: Verifier | None = None,
        overridden: Overridden | None = None,
    ) -> None:
        """Know `epoch`, or `peers`; those of them in `crates` are nodes of the original system."""
        self.own_name = own_name
        self.cluster_id = cluster_id
        self.healed_epoch = healed_epoch
        """Admission that this volume has healed for; None: it never had to yet."""
        self.epoch: Epoch | None = None
        self._names: frozenset[str] = frozenset()
        self._static = tuple(name for name in peers if name != own_name)
        self._discovers = discovers
        self._looked = False
        self._crates = frozenset(crates)
        self._crate_ids: dict[str, int] = {}
        """Node id by name of the nodes of the original system that were heard."""
        self._crate_strangers: set[int] = set()
        """Node ids heard from such nodes, of which nobody knows which one it is."""
        self._verifier = verifier or NoVerifier()
        self.overridden = overridden
        """The last time that an operator overrode an epoch."""
        self.restarts = 0
        """How often this process was given a smaller number by override."""
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

    @property
    def has_crates(self) -> bool:
        """Tell whether nodes of the original system are members (R14)."""
        return bool(self._crates)

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

    def belongs(self, name: str) -> bool:
        """Tell whether `name` may be another member of the cluster."""
        return name != self.own_name and (self.epoch is None or name in self._names)

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
            EpochJump: its number is further ahead than EPOCH_JUMP_MAX.
            StaticPeers: this member has no epochs.
        """
        known = self._governed()
        if epoch.number < known.number:
            raise StaleEpoch(f"epoch {epoch.number} is older than this member's, which is {known.number}")
        if epoch.number > known.number + EPOCH_JUMP_MAX:
            raise EpochJump(
                f"epoch {epoch.number} is more than {EPOCH_JUMP_MAX} ahead of this member's, which is {known.number}; "
                "give a number that follows, or override"
            )
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
        if epoch.signed is None or epoch.signed == known.signed:
            return False
        self._set(replace(known, signed=epoch.signed))  # signed anew, by another authority
        return True

    def _governed(self) -> Epoch:
        if self.epoch is None:
            raise StaticPeers("this member was started without --membership: its peers are those of its flags")
        return self.epoch

    def override(self, epoch: Epoch, now_ms: int) -> bool:
        """Take the document an operator insists on, whatever its number; tell whether it says anything new.

        A smaller number, or another document of the same one, begins anew: what this volume healed for was counted in
        numbers that no longer hold, so it heals as if admitted again. Every member has to be told: none learns a
        smaller number from another, and only those above the overridden one are learnt from others afterwards.

        Raises:
            StaticPeers: this member has no epochs.
        """
        known = self._governed()
        try:
            return self.take(epoch)
        except EpochJump:
            self.learn(epoch)
        except (StaleEpoch, EpochConflict):
            self._set(epoch.following(None))
            self.healed_epoch = 0
            self.restarts += 1
        self.overridden = Overridden(epoch.number, known.number, now_ms)
        return True

    def may_learn(self, number: int) -> bool:
        """Tell whether an epoch of that number, handed on by another member, would be taken."""
        if self.epoch is None:
            return False
        before = self.overridden.before if self.overridden is not None else 0
        return max(self.epoch.number, before) < number <= self.epoch.number + EPOCH_JUMP_MAX

    def _learn_from(self, message: Envelope) -> None:
        """Take the epoch of `message` if it is newer, follows, and the document of it is signed."""
        number = message.epoch
        if number is None or message.epoch_doc is None or message.cluster_id != self.cluster_id:
            return
        if not self.may_learn(number):
            return
        told = self._verifier.verified(message.epoch_doc, message.name or "")
        if told is not None and told.number == number:
            self.learn(told)

    def admit(self, message: Envelope) -> None:
        """Check that the sender of `message` may be listened to, and learn a newer epoch from it.

        Raises:
            ForeignCluster: the sender names another cluster.
            NotAMember: the newest epoch leaves out the sender, or this member; or the sender is not configured.
            IdentityMismatch: a node of the original system has another node id than before.
        """
        if message.cluster_id is not None and self.cluster_id is not None and message.cluster_id != self.cluster_id:
            raise ForeignCluster(f"this member is of cluster {self.cluster_id}, the sender of {message.cluster_id}")
        if self.epoch is None:
            self._admit_configured(message)
            return
        self._learn_from(message)
        if message.name not in self._names:
            raise NotAMember(f"{message.name or 'a sender without a name'} is not in epoch {self.epoch.number}")
        if not self.included():
            raise NotAMember(f"this member, {self.own_name}, is not in epoch {self.epoch.number}")

    def _admit_configured(self, message: Envelope) -> None:
        if message.members is not None and self.own_name not in message.members:
            raise NotAMember(f"the sender's epoch {message.epoch} does not hold this member, {self.own_name}")
        if message.name is None:
            self._admit_crate(message)
        elif message.name in self._crates:
            raise NotAMember(f"{message.name} is configured as a node of the original system; name it by --peer")
        elif not (self._discovers or message.name == self.own_name or message.name in self._static):
            raise NotAMember(f"{message.name} is no configured peer of {self.own_name}; name it by --peer")

    def _admit_crate(self, message: Envelope) -> None:
        """Check the sender of a message without a name, and bind its node id to the configured name it goes by."""
        name, node_id, ids = message.crate, message.sender_id, self._crate_ids
        if not self._crates:
            raise NotAMember(
                "a sender without a name: nodes of the original system are served where they are configured, "
                "by --crate-peer NAME=URL"
            )
        if name is None:
            if node_id not in ids.values() and node_id not in self._crate_strangers:
                if len(ids) + len(self._crate_strangers) >= len(self._crates):
                    raise NotAMember(f"node {node_id} is more than the --crate-peer flags name")
                self._crate_strangers.add(node_id)
            return
        if ids.get(name, node_id) != node_id or any(node_id == ids[other] for other in ids if other != name):
            raise IdentityMismatch(
                f"node {node_id} speaks as {name}, whose node id is {ids.get(name)}; if it was replaced, "
                "restart this member"
            )
        ids[name] = node_id
        self._crate_strangers.discard(node_id)
