"""The root of the tree of errors, and what all of them carry."""

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
