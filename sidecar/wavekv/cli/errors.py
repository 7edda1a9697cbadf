"""Errors that only the command line meets, as a client of a member or as one that starts members."""

from wavekv.errors import WaveKVError


class MemberUnreachable(WaveKVError):
    """The command line found no member at the address."""

    code = "unreachable"
    status = 503
    exit_code = 3


class RefusedByMember(WaveKVError):
    """A refusal that the command line got from a member: code and status are the answer's, whatever its version.

    `etag` is the entity tag that came with it, without quotes, empty where none did.
    """

    code = "refused"

    def __init__(self, status: int, code: str, detail: str, etag: str = "") -> None:
        super().__init__(detail)
        self.answer_status = status
        self.answer_code = code
        self.etag = etag

    @property
    def named(self) -> str:
        """The code of the member's answer."""
        return self.answer_code


class MemberFailed(WaveKVError):
    """A member that the command line started could not start; the detail ends with the last lines of its log."""

    code = "member_failed"


class OutputFailed(WaveKVError):
    """What a command prints cannot be written: the disk is full, or the stream closed. What it did before stays."""

    code = "output"
