"""Accepts the connections of one plane, by the book of `Connections`.

The servers of the libraries were turned down for this: they make a connection first and ask later, show nothing of a
TLS handshake in progress, and where no descriptor is left one of them tries again at once, for ever.
"""

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from wavekv.runtime.connections import Connections, Slot, address_of
from wavekv.runtime.spaced_log import SpacedLog

log = logging.getLogger(__name__)

ACCEPTED_PER_TURN: Final = 8
"""Connections taken from one socket in one turn of the loop: each takes some 150 microseconds until it stands."""
HANDSHAKES_PER_TURN: Final = 2
"""The same over TLS, whose handshakes take a millisecond each."""
_PAUSE_SECONDS: Final = 0.1
"""How long nobody is accepted where no descriptor is left; whoever comes meanwhile waits in the kernel's backlog."""
_BUSY_SECONDS: Final = 0.05
"""The same while there are as many TLS handshakes as there may be."""
_LOOK_SECONDS: Final = 1.0
_SHUTDOWN_SECONDS: Final = 5.0
"""Longest wait for the other side's end of a TLS connection."""
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Listens for one plane. `make` returns the protocol of an admitted connection; it calls `Connections.serve`."""

    def __init__(
        self,
        connections: Connections,
        make: Callable[[Slot], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None = None,
        refusal: bytes = b"",
    ) -> None:
        """Answer a connection there is no place for with `refusal`; over TLS it is closed without a word."""
        self._connections = connections
        self._make = make
        self._tls = tls
        self._refusal = b"" if tls else refusal
        self._sockets: list[socket.socket] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._failures = SpacedLog(log, time.monotonic)

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept on bound, listening sockets; they are closed by `stop`."""
        self._loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        for listener in self._sockets:
            listener.setblocking(False)
            # Those that are accepted have the listener's; of a unix socket the sender's own bounds what waits.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._connections.settings.received_at_once_bytes)
            self._loop.add_reader(listener, self._accept, listener)
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """Accept nobody any more, and end the handshakes in progress. Safe to call twice."""
        for listener in self._sockets:
            self._loop.remove_reader(listener)
            listener.close()
        self._sockets = []
        for opening in self._opening:
            opening.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)
        self._connections.look()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_PER_TURN if self._tls is None else HANDSHAKES_PER_TURN):
            if self._tls is not None and not self._connections.may_shake_hands():
                self._rest(listener, _BUSY_SECONDS)
                return
            try:
                accepted, peername = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # it left before it was accepted
                continue
            except OSError as error:
                self._pause(listener, error)
                return
            accepted.setblocking(False)
            stop, handshake = partial(_shut, accepted), self._tls is not None
            slot = self._connections.admit(address_of(peername), stop, handshake=handshake)
            if slot is None:
                self._refuse(accepted)
                continue
            opening = self._loop.create_task(self._open(slot, accepted))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, slot: Slot, accepted: socket.socket) -> None:
        settings = self._connections.settings
        secured = self._tls is not None
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._make(slot),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=settings.handshake_ms_max / 1000 if secured else None,
                ssl_shutdown_timeout=_SHUTDOWN_SECONDS if secured else None,
            )
        except (OSError, TimeoutError, asyncio.CancelledError):  # among them every failure of a handshake
            _shut(accepted)
            accepted.close()
            if not slot.left and self._sockets:
                self._connections.closed["handshake"] += 1
            self._connections.leave(slot)

    def _refuse(self, accepted: socket.socket) -> None:
        with suppress(OSError):
            if self._refusal:
                accepted.send(self._refusal)
                accepted.shutdown(socket.SHUT_WR)
        accepted.close()

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Stop accepting for a moment: the descriptors, or the kernel's memory, are used up."""
        if error.errno not in _NO_DESCRIPTOR:
            message = "cannot accept on the %s plane: %s"
            self._failures.tell(logging.ERROR, error.strerror or "", message, self._connections.plane, error.strerror)
        self._connections.closed["files"] += 1
        self._connections.evict_one()
        self._rest(listener, _PAUSE_SECONDS)

    def _rest(self, listener: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listener)
        self._loop.call_later(seconds, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._sockets:
            self._loop.add_reader(listener, self._accept, listener)


def _shut(accepted: socket.socket) -> None:
    """End both directions of a connection whose transport is still being made; the transport closes it then."""
    with suppress(OSError):
        accepted.shutdown(socket.SHUT_RDWR)
