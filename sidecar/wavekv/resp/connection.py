"""One Redis connection: replies leave in the order of their commands, while writes wait for the disk together.

Writes of one pipeline are started as they are read, so they share a commit; a read behind them waits until they are
durable, because it must see them and G5 hides what is not durable. A reply that is made in slices stands alone: what is
behind it waits, so order and what a command may see stay as if it had been made at once.

Bounded (G9): what is unparsed, the commands and replies that wait, and what the client has not taken; at each bound
reading stops and the kernel holds the client back. What goes beyond a small share is taken from the plane's budget: a
reply that does not fit there is refused, input that does not fit ends the connection, and so does `patience`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NamedTuple, cast

from wavekv.errors import TooManyBytes, WaveKVError
from wavekv.ports import Clock, Observer
from wavekv.resp import caching, replies, subscribing, told, transactions
from wavekv.resp.commands import COMMANDS, unknown, wrong_count
from wavekv.resp.framing import UNFINISHED, BadProtocol, CommandReader
from wavekv.resp.refusals import Refused
from wavekv.resp.session import Command, Reply, Session, Sliced, Transaction
from wavekv.resp.turns import BYTES_PER_STEP_SHIFT, WRITE_STEPS
from wavekv.runtime.budget import Holding

log = logging.getLogger(__name__)

_FLUSH_BYTES = 1 << 16
"""Replies collected before they are written, so that a client that does not read is noticed in time."""

_BATCH_REPLIES = 64
"""Replies of a long pipeline that are collected before those that are known are sent."""

_FREE_BYTES = 1 << 14
"""What a connection may hold without asking for it; as much waits in its transport at most before that says so. Four
thousand of them that read nothing hold no more so than the plane's budget."""

_ARGUMENT_BYTES = 64
"""What an argument of a command that waits costs beside its bytes."""

_READING_STEPS = 48
"""Steps that reading `framing.READ_AT_ONCE` arguments takes."""

_INTERNAL = replies.error("ERR internal: an internal error; the member's log has its traceback")


class _Slicing(NamedTuple):
    """A command whose reply is made in slices."""

    command: Command
    started: float
    slices: Sliced


class Connection(asyncio.Protocol):
    """Parses, runs and answers the commands of one client."""

    __slots__ = (
        "_batch", "_clock", "_commands", "_ending", "_holding", "_in_line", "_input_ended", "_limits", "_linger",
        "_linger_bytes", "_loop", "_observer", "_on_lost", "_patience", "_pending_bytes", "_replies", "_reply_bytes",
        "_session", "_slicing", "_stuck_since", "_stuck_unsent", "_taking", "_transport", "_turning", "_turns",
        "_waiting_read", "_watchdog", "_writing", "active_at", "lost",
    )  # fmt: skip

    def __init__(
        self, session: Session, observer: Observer, clock: Clock, on_lost: Callable[["Connection"], None]
    ) -> None:
        self._session = session
        session.receiver = self
        self._limits = session.limits
        self._turns = session.shared.turns
        self._patience = session.shared.patience
        self._watchdog = session.shared.watchdog
        self._holding = Holding(session.shared.budget)
        self._observer = observer
        self._clock = clock
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._commands = CommandReader(session.limits.resp_command_bytes_max, session.limits.resp_arguments_max)
        self._replies: deque[bytes | asyncio.Task[bytes]] = deque()
        self._reply_bytes = 0  # of those that are known
        self._pending_bytes = 0  # of the commands that wait for the disk
        self._batch = min(_BATCH_REPLIES, session.limits.resp_pending_max)
        self._writing = 0
        self._waiting_read: list[bytes] | None = None
        self._slicing: _Slicing | None = None
        self._taking = True  # the client takes replies
        self._input_ended = False  # what has been received is still run
        self._ending = False  # no further command is run; close when the replies due have gone
        self._linger_bytes: int | None = None  # that are still read and thrown away, once the last reply was written
        self._linger: asyncio.TimerHandle | None = None
        self._turning = False
        self._in_line = False  # for the next turn of the loop
        self._stuck_since: float | None = None
        self._stuck_unsent = 0
        self.active_at = clock.monotonic()
        """The monotonic second of its last command."""
        self.lost: asyncio.Future[None] = self._loop.create_future()

    # ---- what the loop calls ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_FREE_BYTES)
        peer = transport.get_extra_info("peername")
        self._session.address = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"
        self._session.shared.sessions[self._session.number] = self._session

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what can no longer be answered; writes under way go on."""
        self._ending = True
        self.end_wait()
        if self._linger is not None:
            self._linger.cancel()
        subscribing.leave(self._session)
        caching.stop(self._session)
        self._session.note_told()
        self._session.shared.sessions.pop(self._session.number, None)
        self._replies.clear()
        if self._slicing is not None:
            self._slicing.slices.close()
            self._slicing = None
        self._patience.forget(self)
        self._holding.release()
        self.lost.set_result(None)
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes and answer what can be answered now."""
        if not (self._input_ended or self._ending):
            self._commands.feed(data)
            self._turn()
        elif self._linger_bytes is not None:
            self._linger_bytes -= len(data)
            if self._linger_bytes < 0:
                self.abort()

    def eof_received(self) -> bool:
        """The client sends no more, so it may have gone: answer what is due without a WAIT for others, then close."""
        if self._linger_bytes is not None:
            return False
        self.end()
        self.end_wait()
        return True

    def pause_writing(self) -> None:
        """The client does not read; run nothing more for it."""
        self._taking = False

    def resume_writing(self) -> None:
        """The client reads again."""
        self._taking = True
        self._turn_soon()

    def end(self) -> None:
        """Take no more bytes, run the commands received, and close when their replies have gone."""
        if self._linger_bytes is not None:
            self._transport.close()
        self._input_ended = True
        self._turn_soon()

    def end_wait(self) -> None:
        """Answer a WAIT at once."""
        self._session.end_wait()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def push(self, data: bytes) -> None:
        """Send what was not asked for now, behind all replies due; a client that takes too little of it is cut."""
        if self._transport.is_closing() or self._ending:
            return
        held = self._held_bytes() + len(data)
        if held > self._limits.resp_push_bytes_max or not self._holding.try_resize(max(held - _FREE_BYTES, 0)):
            self.cut("it does not take what it is told of changes")
            return
        self._add(data)
        self._send_settled()
        if self._holding.size or not self._taking:
            self._turn_soon()

    def cut(self, why: str) -> None:
        """Close at once, and say why in the log."""
        self._patience.tell(self._session.address, why)
        self._observer.operation("resp", "other", "cut", 0.0)
        self.abort()

    def stuck_for(self, now: float) -> tuple[float, str]:
        """Return for how many seconds the client has not gone on, and with what."""
        unsent = self._transport.get_write_buffer_size()
        if self._stuck_since is None or unsent < self._stuck_unsent:  # it takes some
            self._stuck_since = now
        self._stuck_unsent = unsent
        why = "half a command came and not the rest of it" if self._taking else "it takes no replies"
        return now - self._stuck_since, why

    # ---- one turn --------------------------------------------------------------------------------------------------

    def _turn_soon(self) -> None:
        """Ask for one turn; all writes that settle in this turn of the loop are answered by it."""
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _go_on(self) -> None:
        """Go on with what the last turn had no steps left for."""
        self._in_line = False
        self._turn()

    def _turn(self) -> None:
        self._turning = False
        if self._transport.is_closing() or self._linger_bytes is not None:
            return
        self._send_settled()
        before = left = 0 if self._in_line else self._turns.share()
        while self._may_run():
            if left <= 0:
                self._stand_in_line()
                break
            if self._slicing is not None:
                left -= self._slice(self._slicing)
            else:
                words = self._next_command()
                if words is None:
                    self._ending = self._ending or self._input_ended
                    break
                left -= self._run(words) if words is not UNFINISHED else _READING_STEPS
            if len(self._replies) >= self._batch or self._reply_bytes >= _FLUSH_BYTES:
                # Also at the bound of waiting replies: what still waits then is a write, whose end brings a turn.
                self._send_settled()
        self._send_settled()
        if before != left:
            self._turns.take(before - left)
        if self._ending and not self._replies and self._slicing is None:
            self._close()
        elif self._account(went_on=before != left):
            self._throttle()

    def _close(self) -> None:
        """Close once what was written has gone, for which the client has as long as for any reply."""
        self._commands = CommandReader(0, 0)
        if self._input_ended:
            self._transport.close()
        else:  # closing with input that nobody read would reset the connection, and the client lose the last replies
            self._linger_bytes = self._limits.resp_linger_bytes_max
            self._linger = self._loop.call_later(self._limits.resp_linger_ms_max / 1000, self.abort)
            self._transport.write_eof()
            self._transport.resume_reading()
        self._patience.watch(self)

    def _stand_in_line(self) -> None:
        if not self._in_line:
            self._in_line = True
            self._turns.wait(self._go_on)

    def _may_run(self) -> bool:
        limits = self._limits
        if not self._taking or len(self._replies) >= limits.resp_pending_max:
            return False
        if self._slicing is not None:
            return True
        if self._ending or self._pending_bytes + self._reply_bytes >= limits.resp_pending_bytes_max:
            return False
        return not self._writing or (self._waiting_read is None and not self._session.alone)

    def _throttle(self) -> None:
        if self._may_run() and not self._in_line:
            self._transport.resume_reading()
        elif not self._ending:
            self._transport.pause_reading()

    def _account(self, *, went_on: bool) -> bool:
        """Take what is held from the plane's budget, and have an eye on a client that does not go on.

        Returns False if there is no room, so that the connection ends.
        """
        commands = self._commands
        held = commands.held_bytes or self._reply_bytes or self._session.held_bytes
        if self._taking and not self._holding.size and not held:
            self._forget_stuck()
            return True
        if not self._holding.try_resize(max(self._held_bytes() - _FREE_BYTES, 0)):
            self._ending = True
            if not self._taking:  # it would not read why either, and what waits for it would be held until it is cut
                self.cut("it takes no replies, and there is no room for them")
                return False
            self._transport.write(replies.refusal(TooManyBytes("there is no room for this command now; try again")))
            self._observer.operation("resp", "other", TooManyBytes.code, 0.0)
            self._close()
            return False
        if self._taking and not commands.midway:
            self._forget_stuck()
        elif self._stuck_since is None or went_on:
            self._stuck_since, self._stuck_unsent = self._clock.monotonic(), 0
            self._patience.watch(self)
        return True

    def _forget_stuck(self) -> None:
        if self._stuck_since is not None:
            self._stuck_since = None
            self._patience.forget(self)

    def _held_bytes(self) -> int:
        held = self._commands.held_bytes + self._reply_bytes + self._session.held_bytes
        return held + self._transport.get_write_buffer_size()

    def _next_command(self) -> list[bytes] | None:
        if self._waiting_read is not None:
            words, self._waiting_read = self._waiting_read, None
            return words
        try:
            return self._commands.next()
        except BadProtocol as error:
            self._add(replies.error(f"ERR Protocol error: {error}"))
            self._ending = True
            return None

    def _add(self, reply: bytes) -> int:
        """Let `reply` wait to be sent; return the steps that it takes."""
        size = len(reply)
        self._replies.append(reply)
        self._reply_bytes += size
        return 1 + (size >> BYTES_PER_STEP_SHIFT)

    def _send_settled(self) -> None:
        """Write the replies that are known, up to the first that is not."""
        out: list[bytes] = []
        size = 0
        while self._replies:
            reply = self._replies[0]
            if isinstance(reply, asyncio.Task):
                if not reply.done():
                    break
                reply = _outcome(reply)
            self._replies.popleft()
            out.append(reply)
            size += len(reply)
            if size >= _FLUSH_BYTES:
                self._send(out, size)
                out, size = [], 0
        if out:
            self._send(out, size)

    def _send(self, out: list[bytes], size: int) -> None:
        self._reply_bytes -= size
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    # ---- one command -----------------------------------------------------------------------------------------------

    def _run(self, words: list[bytes]) -> int:
        """Run a command; return the steps that it took."""
        if not words:  # an empty array is no command; Redis does not answer it either
            return 1
        session, name = self._session, words[0].upper()
        command = COMMANDS.get(name)
        if session.transaction is not None and name not in transactions.AT_ONCE_NAMES:
            return self._queue(session.transaction, command, words) + (len(words) >> 3)
        if command is None or not command.takes(len(words)):
            return self._add(self._mistaken(command, words)) + (len(words) >> 3)
        if command.reads and self._writing:
            self._waiting_read = words
            return 1
        if session.told:
            refusal = told.refusal(session, command, name, words)
            if refusal is not None:
                return self._add(refusal)
        return self._answer(command, words) + (len(words) >> 3)

    def _mistaken(self, command: Command | None, words: list[bytes]) -> bytes:
        """Return the refusal of a command that is unknown or not complete."""
        result = "unknown_command" if command is None else "wrong_arguments"
        self._observer.operation("resp", "other" if command is None else command.kind, result, 0.0)
        return unknown(words) if command is None else wrong_count(words)

    def _queue(self, transaction: Transaction, command: Command | None, words: list[bytes]) -> int:
        """Keep a command for EXEC, or refuse it and with it the transaction."""
        if command is None or not command.takes(len(words)):
            transaction.broken = True
            return self._add(self._mistaken(command, words))
        reply, result = self._attempt(transactions.queue, self._session, transaction, command, words)
        assert isinstance(reply, bytes), "nothing waits to be queued"
        if result != "ok":
            self._observer.operation("resp", command.kind, result, 0.0)
        return self._add(reply)

    def _answer(self, command: Command, words: list[bytes]) -> int:
        started = self.active_at = self._clock.monotonic()
        reply, result = self._attempt(command.run, self._session, words)
        if isinstance(reply, bytes):
            seconds = self._clock.monotonic() - started
            if seconds > self._watchdog.seconds_max:
                self._watchdog.ran("resp", seconds, command.kind)
            self._observer.operation("resp", command.kind, result, seconds)
            self._ending = self._ending or self._session.ends
            return self._add(reply)
        if isinstance(reply, Generator):
            self._slicing = _Slicing(command, started, reply)
            return 1
        assert not isinstance(reply, int), "only a slice comes to a number of steps"
        size = sum(map(len, words)) + len(words) * _ARGUMENT_BYTES
        self._pending_bytes += size
        self._writing += 1
        task = self._loop.create_task(self._settle(command, started, reply))
        task.add_done_callback(lambda ended: self._settled(ended, size))
        self._replies.append(task)
        return WRITE_STEPS + (size >> BYTES_PER_STEP_SHIFT)

    def _slice(self, slicing: _Slicing) -> int:
        """Do a slice of a reply; return the steps that it took."""
        command, started, slices = slicing
        began = self._clock.monotonic()
        done, result = self._attempt(_next_slice, slices)
        now = self._clock.monotonic()
        if now - began > self._watchdog.seconds_max:
            self._watchdog.ran("resp", now - began, command.kind)
        if isinstance(done, int):
            return done
        assert isinstance(done, bytes), "slices come to bytes"
        self._slicing = None
        self._observer.operation("resp", command.kind, result, now - started)
        return 1 + self._add(done)

    def _attempt(self, run: Callable[..., Reply | int], *given: Any) -> tuple[Reply | int, str]:
        """Return what `run` returns, or the reply that says why it does not; and the result for metrics."""
        try:
            reply = run(*given)
            if isinstance(reply, bytes) and len(reply) > _FREE_BYTES:
                self._holding.resize(self._held_bytes() + len(reply))
        except Refused as error:
            return replies.error(str(error)), "refused"
        except WaveKVError as error:
            return replies.refusal(error), error.code
        except Exception as error:  # the loop would log it too, and leave the client without a reply
            log.error("a command failed unexpectedly", exc_info=error)
            return _INTERNAL, "internal"
        return reply, "refused" if isinstance(reply, bytes) and reply.startswith(b"-") else "ok"

    async def _settle(self, command: Command, started: float, write: Coroutine[Any, Any, bytes]) -> bytes:
        result = "internal"
        try:
            reply = await write
            result = "ok"
            if len(reply) > _FREE_BYTES and not self._holding.try_resize(self._held_bytes() + len(reply)):
                result, reply = TooManyBytes.code, _WRITTEN_ALONE
        except Refused as error:
            result, reply = "refused", replies.error(str(error))
        except WaveKVError as error:
            result = error.code
            reply = replies.refusal(error)
        finally:
            self._observer.operation("resp", command.kind, result, self._clock.monotonic() - started)
        return reply

    def _settled(self, task: asyncio.Task[bytes], size: int) -> None:
        self._writing -= 1
        self._session.alone = self._session.alone and self._writing > 0
        self._reply_bytes += len(_outcome(task))
        self._pending_bytes -= size
        if not task.cancelled() and task.exception() is not None:
            log.error("a command failed unexpectedly", exc_info=task.exception())
        self._turn_soon()


_WRITTEN_ALONE = replies.error(
    f"ERR {TooManyBytes.code}: the write is durable, and there is no room to tell what the key held before"
)


def _next_slice(slices: Sliced) -> bytes | int:
    """Do the next slice; return its steps, or the whole reply."""
    try:
        return next(slices)
    except StopIteration as end:
        return bytes(end.value)


def _outcome(task: asyncio.Task[bytes]) -> bytes:
    return _INTERNAL if task.cancelled() or task.exception() is not None else task.result()
