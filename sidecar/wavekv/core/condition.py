"""Conditions of a write or a read: what the value that is there has to be (RFC 9110, section 13.1).

They are decided by the member that is asked, against what is stored and staged on it. Another member may accept a write
of the same key in the same moment; then the later stamp wins, condition or not.
"""

from typing import NamedTuple

from wavekv.core.types import Entry
from wavekv.errors import PreconditionFailed

ANY = "*"


class Condition(NamedTuple):
    """Entity tags without quotes, or ANY; None: the condition was not given.

    `match`: one of these has to be there (If-Match). `none_match`: none of these may be there (If-None-Match).
    """

    match: tuple[str, ...] | None = None
    none_match: tuple[str, ...] | None = None

    def check(self, live: Entry | None) -> None:
        """Check the condition against the value that is there, None where there is none.

        Raises:
            PreconditionFailed: it does not hold.
        """
        if self.match is not None and not _among(live, self.match):
            there = "the key holds no value" if live is None else f'the value there is "{live.etag}"'
            raise PreconditionFailed(f"If-Match does not hold: {there}", live.etag if live else None)
        if self.none_match is not None and _among(live, self.none_match):
            assert live is not None, "nothing is among no tags"
            raise PreconditionFailed(f'If-None-Match does not hold: the value there is "{live.etag}"', live.etag)


ALWAYS = Condition()
ABSENT = Condition(none_match=(ANY,))
PRESENT = Condition(match=(ANY,))


def _among(live: Entry | None, tags: tuple[str, ...]) -> bool:
    return live is not None and (ANY in tags or live.etag in tags)
