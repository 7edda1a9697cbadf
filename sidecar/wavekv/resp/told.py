"""What a client that is told of changes may send, and what is remembered of it before it runs."""

from typing import Final

from wavekv.resp import replies, subscribing
from wavekv.resp.session import Command, Session
from wavekv.resp.tracking import Tracking
from wavekv.resp.turns import KEYS_PER_SLICE

_READING: Final = frozenset({"get", "multi_get"})
"""Kinds of commands whose keys a client with a cache is told of."""

_KEEPING: Final = frozenset({b"CLIENT", b"MULTI", b"EXEC"})
"""Commands behind which what CLIENT CACHING said still holds: it is of the next other one, or a whole transaction."""


def refusal(session: Session, command: Command, name: bytes, words: list[bytes]) -> bytes | None:
    """Return why a command must not run now; if it may, its keys are remembered, in the turn in which it reads them."""
    if session.subscriptions and session.proto == 2 and name not in subscribing.ALLOWED:
        return subscribing.not_allowed(words)
    there = session.tracking
    if there is not None and command.keys[0] and command.kind in _READING:
        return _track(session, there, command, words)
    if there is not None and not session.deciding and name not in _KEEPING:
        there.caching = None
    return None


def _track(session: Session, tracking: Tracking, command: Command, words: list[bytes]) -> bytes | None:
    if not tracking.remembers(keeps=session.deciding):
        return None
    first, last, step = command.keys
    keys = words[first : last + 1 if last > 0 else None : step]
    if len(keys) > KEYS_PER_SLICE:
        return replies.error(f"ERR a client that tracks its keys reads {KEYS_PER_SLICE} of them at once at most")
    session.shared.tracker.read(tracking, keys)
    return None
