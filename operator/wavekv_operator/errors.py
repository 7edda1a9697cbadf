"""Every error of the operator: one tree, each class with a stable code that events, metrics and logs use.

Foreign exceptions (Kubernetes client, aiohttp, ssl) are caught where they enter and chained to one of these. `retry`
tells the loop whether trying again without a change can help.
"""


class OperatorError(Exception):
    """Base of all. `code` is stable; the message says what happened and what to do."""

    code = "error"
    retry = True

    @property
    def detail(self) -> str:
        """The message."""
        return str(self)


class UsageError(OperatorError):
    """The operator was started with settings that cannot work."""

    code = "usage"
    retry = False


class InvalidSpec(OperatorError):
    """A custom resource says something that cannot be built. `path` names the field."""

    code = "invalid_spec"
    retry = False

    def __init__(self, path: str, message: str, reason: str = "InvalidSpec") -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.reason = reason


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


class MemberUnreachable(MemberError):
    """No answer from a member."""

    code = "member_unreachable"


class MemberRefused(MemberError):
    """A member answered a problem document; `member_code` is its code."""

    code = "member_refused"

    def __init__(self, message: str, member_code: str) -> None:
        super().__init__(message)
        self.member_code = member_code
