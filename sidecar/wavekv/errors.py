"""Every error a member can answer with: one tree, each class with a stable code and an HTTP status.

The code is the contract (clients and tests match on it), the detail is for people and says what to do. Foreign
exceptions are caught where they enter and chained to one of these; nothing above this module raises built-in errors
on purpose. `exit_code` is what the command line ends with: 1 refused or not found, 2 usage, 3 unreachable,
4 corruption.
"""

from collections.abc import Sequence
from typing import ClassVar

Problem = dict[str, str | int | list[str]]


class WaveKVError(Exception):
    """Base of the tree: `detail` says what happened and what to do about it."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.more: Problem = {}

    def problem(self) -> Problem:
        """Return the error as the members of an RFC 9457 problem document."""
        told: Problem = {"type": "about:blank", "title": self.code.replace("_", " ")}
        return told | {"status": self.status, "code": self.code, "detail": self.detail} | self.more

    @property
    def named(self) -> str:
        """The code this very error goes by."""
        return self.code


# ---- the caller's request is wrong ---------------------------------------------------------------------------------


class RequestError(WaveKVError):
    """The caller has to change the request."""

    code = "bad_request"
    status = 400


class MalformedHttp(RequestError):
    """Bytes that are not HTTP, or a request line or header over its bound."""

    code = "malformed_http"


class InvalidKey(RequestError):
    code = "invalid_key"


class InvalidParameter(RequestError):
    code = "invalid_parameter"


class IncompleteBody(RequestError):
    code = "incomplete_body"


class InvalidBody(RequestError):
    """A document that is not what the route takes; the detail names the place in it."""

    code = "invalid_body"


class RequestTooSlow(RequestError):
    """The rest of a head or a body did not come in time; nothing of the request was done."""

    code = "request_too_slow"
    status = 408


class UnsupportedMediaType(RequestError):
    code = "unsupported_media_type"
    status = 415


class ForeignOrigin(RequestError):
    """A web page of another host, or a name that is not this machine's, speaks to the loopback socket."""

    code = "foreign_origin"
    status = 403


class KeyNotFound(RequestError):
    code = "not_found"
    status = 404


class PreconditionFailed(RequestError):
    """A write's condition does not hold; `etag` names the value that is there, None where there is none.

    `operation` is the place, from 0, of the write in its batch; None for a write of its own.
    """

    code = "precondition_failed"
    status = 412

    def __init__(self, detail: str, etag: str | None = None, operation: int | None = None) -> None:
        super().__init__(detail)
        self.etag = etag
        self.operation = operation

    def problem(self) -> Problem:
        """Return the problem document, with the place of the operation where there is one."""
        place: Problem = {} if self.operation is None else {"operation": self.operation}
        return super().problem() | place


class InvalidCondition(RequestError):
    code = "invalid_condition"


class InvalidSession(RequestError):
    """A session token that is none, or over its bounds."""

    code = "invalid_session"


class DurabilityImpossible(RequestError):
    """More members than there are were asked for; nothing is stored."""

    code = "durability_impossible"


class BatchTooLarge(RequestError):
    """More operations or bytes than one batch may have; nothing of it is stored."""

    code = "batch_too_large"
    status = 413


class CratePeers(RequestError):
    """A node of the original system is a member: it would drop the expiry and keep the value for ever (R14)."""

    code = "crate_peers"
    status = 409


class WatchExpired(RequestError):
    """The token is another member's or too old: begin anew with a watch that names none."""

    code = "watch_expired"
    status = 410


class SlowReader(RequestError):
    """A watcher that did not take its events while the bound of those waiting was reached; it is cut."""

    code = "slow_reader"
    status = 503


class UnknownRoute(RequestError):
    code = "unknown_route"
    status = 404


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"
    status = 405


class ValueTooLarge(RequestError):
    code = "value_too_large"
    status = 413


class NotImplementedHere(RequestError):
    """An option or route of the API that this version lacks; it is refused, never ignored."""

    code = "not_implemented"
    status = 501


# ---- the member cannot do it now -----------------------------------------------------------------------------------


class UnavailableError(WaveKVError):
    """The request is fine; this member cannot serve it at the moment."""

    code = "unavailable"
    status = 503


class Starting(UnavailableError):
    code = "starting"


class Draining(UnavailableError):
    code = "draining"


class Removed(UnavailableError):
    """The newest epoch leaves this member out: it serves nobody until one admits it again."""

    code = "removed"


class Superseded(UnavailableError):
    """A newer process of this member's own name was heard (R8): this one serves nothing more, reads included."""

    code = "superseded"


class Stopping(UnavailableError):
    code = "stopping"


class TooManyWaiting(UnavailableError):
    code = "too_many_waiting"
    status = 429


class ClockAhead(UnavailableError):
    """This member's clock is far ahead of its peers': its writes would beat theirs, or be refused by them."""

    code = "clock_ahead"


class CoverageTimeout(UnavailableError):
    """A session was not covered in time; its problem names the tokens of both parts, `covered` and `missing`."""

    code = "coverage_timeout"
    status = 504

    def __init__(self, detail: str, covered: str, missing: str) -> None:
        super().__init__(detail)
        self.more = {"covered": covered, "missing": missing}


class DurabilityTimeout(UnavailableError):
    """A write is durable here, and was not known to be on enough members in time; it stays.

    `durable_on` names the members that hold it; `etag` is its entity tag without quotes, None for a batch.
    """

    code = "durability_timeout"
    status = 504

    def __init__(self, detail: str, durable_on: Sequence[str], session: str = "") -> None:
        super().__init__(detail)
        self.more = {"durable_on": list(durable_on)}
        self.durable_on = tuple(durable_on)
        self.etag: str | None = None
        self.session = session


class TooManyBytes(UnavailableError):
    """What the clients of a plane hold, or wait to be answered with, reached the plane's budget of memory (G9)."""

    code = "memory_budget"


class TooManyConnections(UnavailableError):
    code = "too_many_connections"


class TooManyWatchers(UnavailableError):
    code = "too_many_watchers"


class NotWritten(UnavailableError):
    """Nothing of the refused write is on disk, and later ones may succeed."""


class DiskFull(NotWritten):
    """The volume is full; reads go on, and writes do again once room returns."""

    code = "disk_full"
    status = 507


class OutOfDescriptors(NotWritten):
    """The process, or the machine, has as many files and connections open as it may; the disk is fine."""

    code = "out_of_descriptors"


class LimitReached(UnavailableError):
    code = "limit_reached"
    status = 507


# ---- another member's message is refused ---------------------------------------------------------------------------


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


# ---- an operator's request is refused ------------------------------------------------------------------------------


class BadMembership(RequestError):
    code = "bad_membership"


class DocumentTooLarge(RequestError):
    code = "document_too_large"
    status = 413


class StaleEpoch(RequestError):
    """A newer document is in force."""

    code = "stale_epoch"
    status = 409


class EpochConflict(RequestError):
    """Two documents of one number: a number is used once."""

    code = "epoch_conflict"
    status = 409


class EpochJump(RequestError):
    """A number further above the known one than epochs are counted on; `?override=true` takes it all the same."""

    code = "epoch_jump"
    status = 409


class BadCertificate(RequestError):
    """A certificate that does not fit this member: its key, name, cluster, authority or dates."""

    code = "bad_certificate"


class OwnCertificate(RequestError):
    """The member's certificate is that of its flags (`--tls-cert`): whoever wrote the file renews it."""

    code = "own_certificate"
    status = 409


class StaticPeers(RequestError):
    """The member has no epochs, so there is none to change and nothing to be drained from."""

    code = "static_peers"
    status = 409


# ---- disk and directory --------------------------------------------------------------------------------------------


class StorageError(WaveKVError):
    """The data directory cannot be used as it is; nothing in it was changed."""

    code = "storage"
    status = 503


class DirectoryInUse(StorageError):
    code = "directory_in_use"


class DirectoryUnusable(StorageError):
    """Missing permissions, not a directory, or a read-only file system."""

    code = "directory_unusable"


class ForeignDirectory(StorageError):
    """The directory belongs to another cluster, node or program."""

    code = "foreign_directory"


class NewerVersion(StorageError):
    """Written by a newer version: start that version, or restore a copy made before the upgrade."""

    code = "wal_newer_version"


class BadHeader(StorageError):
    """A log whose header is not one of ours; the file is left untouched."""

    code = "wal_bad_header"
    exit_code = 4


class Corruption(StorageError):
    code = "corruption"
    exit_code = 4


class UnusableFile(DirectoryUnusable):
    """A name of the data directory that is no regular file of a size that its kind may have; it is left untouched."""

    code = "unusable_file"
    exit_code = 4


class VolumeTooLarge(StorageError):
    """The volume holds far more than the limits of this member allow; nothing of it was changed."""

    code = "volume_too_large"
    exit_code = 4


class SnapshotDamaged(StorageError):
    """A snapshot whose checksums or counts do not hold."""

    code = "snapshot_damaged"
    exit_code = 4


class DiskFailed(StorageError):
    """Writing or syncing failed in a way that leaves the disk's content unknown: the process must stop and recover."""

    code = "disk_failed"


# ---- settings and the command line ---------------------------------------------------------------------------------


class UsageError(WaveKVError):
    """A flag, environment variable or file that a person has to correct."""

    code = "usage"
    exit_code = 2


class PortTaken(UsageError):
    code = "port_taken"
    exit_code = 1


class AddressUnavailable(UsageError):
    """No interface of this machine has the address to listen on."""

    code = "address_unavailable"
