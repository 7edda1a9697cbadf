"""Errors of a request that is wrong; the caller has to change it."""

from wavekv.errors.base import Problem, WaveKVError


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
