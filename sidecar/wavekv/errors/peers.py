"""Errors that refuse another member's message, or say that another member does not answer."""

from wavekv.errors.base import Problem, WaveKVError


class PeerError(WaveKVError):
    """A message of the peer plane that is refused; nothing of it is merged."""

    code = "bad_peer"
    status = 400


class BadEnvelope(PeerError):
    code = "bad_envelope"


class EnvelopeTooLarge(PeerError):
    """More bytes than the wire allows, compressed or inflated. Answered 400 as the crate does."""

    code = "envelope_too_large"


class ForeignCluster(PeerError):
    code = "foreign_cluster"
    status = 403


class NotAMember(PeerError):
    code = "not_a_member"
    status = 403


class WrongRole(PeerError):
    """The certificate is good for another plane than the one asked."""

    code = "wrong_role"
    status = 403


class WrongName(PeerError):
    """A member's certificate names another member than the message does: each speaks for itself alone."""

    code = "wrong_name"
    status = 403


class StaleProcess(PeerError):
    """A process of a member name that was superseded by a newer one (R8); `newest` is that one's number.

    The refusal carries both, so that the process it speaks of learns that it has been superseded: from the newer one
    itself (`own_word`), or by its signed `claim` (base64), which others only hand on.
    """

    code = "stale_process"
    status = 403

    def __init__(self, detail: str, member: str, newest: int, claim: str = "", *, own_word: bool = False) -> None:
        super().__init__(detail)
        self.member = member
        self.newest = newest
        self.claim = claim
        self.own_word = own_word

    def problem(self) -> dict[str, str | int | list[str]]:
        """Return the problem document, with the member's name, the number of its newest process, and its claim."""
        claim: Problem = {"claim": self.claim} if self.claim else {}
        return super().problem() | {"member": self.member, "newest": self.newest} | claim


class SameProcess(PeerError):
    """A message of this very process: an address it was given for a peer leads back to itself."""

    code = "same_process"
    status = 403


class FutureProcess(PeerError):
    """The sender's process number is a time far ahead of this member's clock."""

    code = "future_process"
    status = 403


class IdentityMismatch(PeerError):
    """The sender's uuid is not the one known for its node id (500, as the crate answers)."""

    code = "identity_mismatch"
    status = 500


class UnknownStore(PeerError):
    """404 makes a crate peer fall back to the v1 protocol, so nothing else on the peer plane may answer it."""

    code = "unknown_store"
    status = 404


class PeerUnreachable(PeerError):
    code = "peer_unreachable"
    status = 503
    exit_code = 3
