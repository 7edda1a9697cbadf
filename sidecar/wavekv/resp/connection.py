"""One Redis connection: replies leave in the order of their commands, while writes wait for the disk together.

Writes of one pipeline are started as they are read, so they share a commit; a read behind them waits until they are
durable, because it must see them and G5 hides what is not durable. Bounded (G9): what is unparsed, the replies that
wait, and what the client has not taken; at each bound reading stops and the kernel holds the client back.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

from wavekv.errors import WaveKVError
from wavekv.ports import Clock, Observer
from wavekv.resp import replies
from wavekv.resp.commands import COMMANDS, refuse_transaction, unknown, wrong_count
from wavekv.resp.framing import BadProtocol, CommandReader
from wavekv.resp.session import Command, Refused, Session

log = logging.getLogger(__name__)

_FLUSH_BYTES = 1 << 16
"""Replies collected before they are written, so that a client that does not read is noticed in time."""

_BATCH_REPLIES = 64
"""Replies of a long pipeline that are collected before those that are known are sent."""

_INTERNAL = replies.error("ERR internal: an internal error; the member's log has its traceback")


class Connection(asyncio.Protocol):
    """Parses, runs and answers the commands of one client."""

    def __init__(
        self, session: Session, observer: Observer, clock: Clock, on_lost: Callable[["Connection"], None]
    ) -> None:
        self._session = session
        self._observer = observer
        self._clock = clock
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._commands = CommandReader(session.limits.resp_command_bytes_max, session.limits.resp_arguments_max)
        self._replies: deque[bytes | asyncio.Task[bytes]] = deque()
        self._batch = min(_BATCH_REPLIES, session.limits.resp_pending_max)
        self._writing = 0
        self._waiting_read: list[bytes] | None = None
        self._taking = True  # the client takes replies
        self._input_ended = False  # what has been received is still run
        self._ending = False  # no further command is run; close when the replies due have gone
        self._turning = False
        self.lost: asyncio.Future[None] = self._loop.create_future()

    # ---- what the loop calls ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._session.address = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"
        self._session.shared.sessions[self._session.number] = self._session

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what can no longer be answered; writes under way go on."""
        self._ending = True
        self.end_wait()
        self._session.shared.sessions.pop(self._session.number, None)
        self._replies.clear()
        self.lost.set_result(None)
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes and answer what can be answered now."""
        if not (self._input_ended or self._ending):
            self._commands.feed(data)
            self._turn()

    def eof_received(self) -> bool:
        """The client sends no more, so it may have gone: answer what is due without a WAIT for others, then close."""
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
        self._input_ended = True
        self._turn_soon()

    def end_wait(self) -> None:
        """Answer a WAIT at once."""
        self._session.end_wait()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # ---- one turn --------------------------------------------------------------------------------------------------

    def _turn_soon(self) -> None:
        """Ask for one turn; all writes that settle in this turn of the loop are answered by it."""
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        if self._transport.is_closing():
            return
        self._send_settled()
        while self._may_run():
            words = self._next_command()
            if words is None:
                self._ending = self._ending or self._input_ended
                break
            self._run(words)
            if len(self._replies) >= self._batch:
                # Also at the bound of waiting replies: what still waits then is a write, whose end brings a turn.
                self._send_settled()
        self._send_settled()
        if self._ending and not self._replies:
            self._transport.close()
            return
        self._throttle()

    def _may_run(self) -> bool:
        if self._ending or not self._taking or len(self._replies) >= self._session.limits.resp_pending_max:
            return False
        return self._waiting_read is None or not self._writing

    def _throttle(self) -> None:
        if self._may_run():
            self._transport.resume_reading()
        elif not self._ending:
            self._transport.pause_reading()

    def _next_command(self) -> list[bytes] | None:
        if self._waiting_read is not None:
            words, self._waiting_read = self._waiting_read, None
            return words
        try:
            return self._commands.next()
        except BadProtocol as error:
            self._replies.append(replies.error(f"ERR Protocol error: {error}"))
            self._ending = True
            return None

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
                self._transport.write(b"".join(out))
                out, size = [], 0
        if out:
            self._transport.write(b"".join(out))

    def _run(self, words: list[bytes]) -> None:
        if not words:  # an empty array is no command; Redis does not answer it either
            return
        refusal = refuse_transaction(self._session, words)
        if refusal is not None:
            self._observer.operation("resp", "other", "not_implemented", 0.0)
            self._replies.append(refusal)
            return
        command = COMMANDS.get(words[0].upper())
        if command is None:
            self._observer.operation("resp", "other", "unknown_command", 0.0)
            self._replies.append(unknown(words))
        elif not command.takes(len(words)):
            self._observer.operation("resp", command.kind, "wrong_arguments", 0.0)
            self._replies.append(wrong_count(words))
        elif command.reads and self._writing:
            self._waiting_read = words
        else:
            self._replies.append(self._answer(command, words))

    def _answer(self, command: Command, words: list[bytes]) -> bytes | asyncio.Task[bytes]:
        started = self._clock.monotonic()
        try:
            reply = command.run(self._session, words)
        except Refused as error:
            self._observe(command, "refused", started)
            return replies.error(str(error))
        except WaveKVError as error:
            self._observe(command, error.code, started)
            return replies.refusal(error)
        except Exception as error:  # the loop would log it too, and leave the client without a reply
            log.error("a command failed unexpectedly", exc_info=error)
            self._observe(command, "internal", started)
            return _INTERNAL
        if not isinstance(reply, bytes):
            self._writing += 1
            task = self._loop.create_task(self._settle(command, started, reply))
            task.add_done_callback(self._settled)
            return task
        self._observe(command, "refused" if reply.startswith(b"-") else "ok", started)
        self._ending = self._ending or self._session.ends
        return reply

    async def _settle(self, command: Command, started: float, write: Coroutine[Any, Any, bytes]) -> bytes:
        result = "internal"
        try:
            reply = await write
            result = "ok"
        except WaveKVError as error:
            result = error.code
            reply = replies.refusal(error)
        finally:
            self._observe(command, result, started)
        return reply

    def _settled(self, task: asyncio.Task[bytes]) -> None:
        self._writing -= 1
        if not task.cancelled() and task.exception() is not None:
            log.error("a command failed unexpectedly", exc_info=task.exception())
        self._turn_soon()

    def _observe(self, command: Command, result: str, started: float) -> None:
        self._observer.operation("resp", command.kind, result, self._clock.monotonic() - started)


def _outcome(task: asyncio.Task[bytes]) -> bytes:
    return _INTERNAL if task.cancelled() or task.exception() is not None else task.result()
