"""Every error of the operator: one tree, each class with a stable code that events, metrics and logs use.

Foreign exceptions (Kubernetes client, aiohttp, ssl) are caught where they enter and chained to one of these. A pass
that ends with one is done again after a growing pause (`keepers`), whichever it is.
"""


class OperatorError(Exception):
    """Base of all. `code` is stable; the message says what happened and what to do."""

    code = "error"

    @property
    def detail(self) -> str:
        """The message."""
        return str(self)


class UsageError(OperatorError):
    """The operator was started with settings that cannot work."""

    code = "usage"


class Refused(OperatorError):
    """A custom resource is not built as things are; `reason` is that of the condition `Accepted`."""

    code = "refused"
    reason = "Refused"


class InvalidSpec(Refused):
    """A custom resource says something that cannot be built. `path` names the field."""

    code = "invalid_spec"

    def __init__(self, path: str, message: str, reason: str = "InvalidSpec") -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.reason = reason


class ChildNotOurs(Refused):
    """An object that the resource did not create has the name of one of its children."""

    code = "child_not_ours"
    reason = "ChildNotOurs"

    def __init__(self, kind: str, name: str, way_out: str = "") -> None:
        remedy = way_out or f"delete or rename that {kind}, or give the WaveKVCluster another name"
        super().__init__(f"{kind} {name} exists and was not made for this resource, so it is left alone: {remedy}")
        self.kind = kind
        self.name = name


class DamagedObject(OperatorError):
    """An object that the operator keeps its state in does not say what it has to."""

    code = "damaged_object"


class ApiError(OperatorError):
    """The Kubernetes API refused a request or did not answer. `status` is None where nothing was answered."""

    code = "api_error"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ApiNotFound(ApiError):
    """The object is not there."""

    code = "api_not_found"


class ApiConflict(ApiError):
    """The object changed meanwhile, or a field belongs to another manager."""

    code = "api_conflict"


class MemberError(OperatorError):
    """A member could not be asked, or refused."""

    code = "member_error"


class EnrolmentRefused(MemberError):
    """A member's proof of what it is does not hold; `member` gets no certificate."""

    code = "enrolment_refused"

    def __init__(self, member: str, message: str) -> None:
        super().__init__(f"{member} gets no certificate: {message}")
        self.member = member
        self.why = message


class MemberUnreachable(MemberError):
    """No answer from a member."""

    code = "member_unreachable"


class MemberUnverified(MemberUnreachable):
    """Whoever answered at a member's address shows no certificate of this member."""

    code = "member_unverified"


class MemberRefused(MemberError):
    """A member answered a problem document; `member_code` is its code."""

    code = "member_refused"

    def __init__(self, message: str, member_code: str) -> None:
        super().__init__(message)
        self.member_code = member_code
