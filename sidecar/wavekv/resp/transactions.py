"""MULTI, EXEC, DISCARD, WATCH, UNWATCH: the commands in between are decided together and stored as one batch.

All or nothing on this member, under one sync; another member may accept a write of the same key in the same moment, and
then the later stamp wins, as always. As with Redis, a command that fails at EXEC is answered by its error and does not
undo the others; what this member cannot store at all (a full disk, a limit) is answered once, and nothing is stored.

A long transaction is decided over several turns of the loop, and then stored only if nothing it looked at has changed;
if that happens too often, it is decided in one turn.
"""

from collections.abc import Coroutine, Generator
from typing import Any, Final

from wavekv.core.types import Entry
from wavekv.errors import BatchTooLarge, PreconditionFailed, WaveKVError
from wavekv.resp import replies, told
from wavekv.resp.overlay import Overlay
from wavekv.resp.refusals import NOT_QUEUED, Refused
from wavekv.resp.session import Command, Reply, Session, Transaction
from wavekv.runtime.gate import next_slice

AT_ONCE: Final = 128
"""Commands decided in one turn of the loop, two milliseconds or so; fewer where they have many arguments."""
_ARGUMENTS_AT_ONCE: Final = 1024
_TRIES: Final = 4
_ARGUMENT_BYTES: Final = 64
_WATCHED_BYTES: Final = 160
"""What a watched key takes beside its name."""
_WRITING: Final = frozenset({"put", "batch", "delete", "expire"})
"""Kinds of commands that write; a transaction without any stores nothing."""
_QUEUED = b"+QUEUED\r\n"
_DISCARDED = "EXECABORT Transaction discarded because of previous errors."

AT_ONCE_NAMES: Final = frozenset({b"EXEC", b"DISCARD", b"MULTI", b"WATCH", b"QUIT", b"RESET"})
"""Commands that are run behind MULTI, not queued."""


def multi(session: Session, words: list[bytes]) -> Reply:
    """MULTI."""
    if session.transaction is not None:
        raise Refused("ERR MULTI calls can not be nested")
    session.transaction = Transaction()
    return replies.OK


def queue(session: Session, transaction: Transaction, command: Command, words: list[bytes]) -> bytes:
    """Keep a command for EXEC. Raises Refused, and EXEC will be refused too."""
    size = sum(map(len, words)) + len(words) * _ARGUMENT_BYTES
    limits = session.limits
    try:
        if not command.queued:
            raise Refused(NOT_QUEUED)
        if len(transaction.commands) >= limits.resp_queued_max:
            raise Refused(
                f"ERR a transaction has {limits.resp_queued_max} commands at most; send several, or a pipeline without "
                "MULTI (redis-py: pipeline(transaction=False))"
            )
        if transaction.arguments + len(words) > limits.resp_queued_arguments_max:
            raise Refused(
                f"ERR the commands of a transaction have {limits.resp_queued_arguments_max} arguments at most; send "
                "several, or do without MULTI"
            )
        if transaction.size_bytes + size > limits.resp_queued_bytes_max:
            raise Refused(f"ERR the commands of a transaction have {limits.resp_queued_bytes_max} bytes at most")
    except Refused:
        transaction.broken = True
        raise
    transaction.commands.append((command, words))
    transaction.arguments += len(words)
    transaction.size_bytes += size
    session.held_bytes += size
    return _QUEUED


def discard(session: Session, words: list[bytes]) -> Reply:
    """DISCARD."""
    if session.transaction is None:
        raise Refused("ERR DISCARD without MULTI")
    forget(session)
    return replies.OK


def forget(session: Session) -> None:
    """Forget what was queued and watched."""
    if session.transaction is not None:
        session.held_bytes -= session.transaction.size_bytes
        session.transaction = None
    unwatch_all(session)


def watch(session: Session, words: list[bytes]) -> Reply:
    """WATCH key…: EXEC does nothing if one of them changes."""
    if session.transaction is not None:
        raise Refused("ERR WATCH inside MULTI is not allowed")
    most = session.limits.resp_watched_max
    named = dict.fromkeys(words[1:])
    keys = [session.key(word) for word in named] if len(named) <= most else []
    if not keys or len(session.watched.keys() | set(keys)) > most:
        raise Refused(f"ERR a connection watches {most} keys at most; UNWATCH first")
    for key in keys:
        if key not in session.watched:
            session.watched[key] = _tag(session.store.get(key))
            session.held_bytes += len(key) + _WATCHED_BYTES
    return replies.OK


def unwatch(session: Session, words: list[bytes]) -> Reply:
    """UNWATCH."""
    if not session.deciding:
        unwatch_all(session)
    return replies.OK


def unwatch_all(session: Session) -> None:
    """Watch nothing."""
    session.held_bytes -= sum(len(key) + _WATCHED_BYTES for key in session.watched)
    session.watched = {}


def execute(session: Session, words: list[bytes]) -> Reply:
    """EXEC."""
    transaction, watched = session.transaction, session.watched
    if transaction is None:
        raise Refused("ERR EXEC without MULTI")
    forget(session)
    if transaction.broken:
        raise Refused(_DISCARDED)
    if not transaction.commands and not watched:
        return replies.array([])
    session.alone = True
    return _executed(session, transaction.commands, watched)


async def _executed(
    session: Session, commands: list[tuple[Command, list[bytes]]], watched: dict[str, str | None]
) -> bytes:
    try:
        return await _execute(session, commands, watched)
    finally:
        if session.tracking is not None:
            session.tracking.caching = None


async def _execute(
    session: Session, commands: list[tuple[Command, list[bytes]]], watched: dict[str, str | None]
) -> bytes:
    arguments = sum(len(words) for _, words in commands)
    visible = not any(command.kind in _WRITING for command, _ in commands)
    for tried in range(_TRIES):
        sliced = tried < _TRIES - 1 and (len(commands) > AT_ONCE or arguments > _ARGUMENTS_AT_ONCE)
        overlay = Overlay(session.shared.store, session.shared.clock, visible=visible)
        if any(_tag(overlay.pending(key)) != tag for key, tag in watched.items()):
            return replies.null_array(session.proto)
        results = await _decide(session, overlay, commands, sliced=sliced)
        if visible:
            if sliced and _changed(session, overlay):
                continue
            return replies.array(results)
        try:
            written = await overlay.store(conditional=sliced)
        except PreconditionFailed:
            continue
        for one in written:
            session.wrote(one)
        return replies.array(results)
    raise AssertionError("what is decided in one turn cannot be overtaken")


def _changed(session: Session, overlay: Overlay) -> bool:
    store = session.shared.store
    return any(_tag(store.get(key)) != _tag(before) for key, before in overlay.seen.items())


async def _decide(
    session: Session, overlay: Overlay, commands: list[tuple[Command, list[bytes]]], *, sliced: bool
) -> list[bytes]:
    results: list[bytes] = []
    size = decided = arguments = 0
    for command, words in commands:
        if sliced and (decided >= AT_ONCE or arguments + len(words) > _ARGUMENTS_AT_ONCE):
            await next_slice()
            decided = arguments = 0
        decided += 1
        arguments += len(words)
        result = _run(session, overlay, command, words)
        size += len(result)
        if size > session.limits.resp_replies_bytes_max:
            raise BatchTooLarge(
                f"the replies of the transaction exceed {session.limits.resp_replies_bytes_max} bytes together; "
                "nothing was stored"
            )
        results.append(result)
    return results


def _run(session: Session, overlay: Overlay, command: Command, words: list[bytes]) -> bytes:
    """Run one command against the overlay, where nothing waits."""
    session.store = overlay
    try:
        refused = told.refusal(session, command, words[0].upper(), words) if session.told else None
        if refused is not None:
            return refused
        reply = command.run(session, words)
        if isinstance(reply, bytes):
            return reply
        return _end_of(reply)
    except Refused as error:
        return replies.error(str(error))
    except WaveKVError as error:
        return replies.refusal(error)
    finally:
        session.store = session.shared.store


def _end_of(reply: Coroutine[Any, Any, bytes] | Generator[int, None, bytes]) -> bytes:
    try:
        while True:
            waits = reply.send(None)
            assert isinstance(waits, int), "nothing waits while a transaction is decided"
    except StopIteration as end:
        return bytes(end.value)


def _tag(entry: Entry | None) -> str | None:
    return None if entry is None else entry.etag
