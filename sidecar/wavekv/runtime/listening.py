"""Opens the sockets a member listens on, and says clearly why one cannot be opened.

The servers of all planes take bound sockets from here, so that a taken port or a wrong address is refused in one way
and before anything is served. The data planes have no authentication: they listen on loopback and unix sockets only.
"""

import errno
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from wavekv.config import Address
from wavekv.errors import AddressUnavailable, PortTaken, UsageError

log = logging.getLogger(__name__)

UNIX_PATH_BYTES_MAX = 107
"""Linux's bound on the path of a unix socket, without its terminating zero."""

BACKLOG = 1024
"""Connections the kernel holds before they are accepted; it takes the smaller of this and net.core.somaxconn."""

_CONNECT_SECONDS = 1.0
_ANY = ("0.0.0.0", "::")  # noqa: S104 - for planes that mutual TLS guards, or that hold no data


def check_loopback(addresses: Sequence[Address]) -> None:
    """Accept literal loopback addresses and `localhost` only.

    Raises:
        UsageError: names the address that others could reach.
    """
    for address in addresses:
        if not _is_loopback(address.host):
            raise UsageError(
                f"{address} is not a loopback address; the data planes have no authentication and listen on 127.0.0.1,"
                " [::1] or a unix socket only"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: only this one cannot point elsewhere
        return host == "localhost"


def open_loopback(addresses: Sequence[Address], flag: str = "") -> list[socket.socket]:
    """Return a listening socket for each address; an IPv6 one that this machine lacks is skipped.

    `flag` is the one that gave the addresses, for whoever has to give others.

    Raises:
        UsageError: an address is not loopback, or none of them exists here.
        PortTaken: another program listens there; no socket stays open.
    """
    check_loopback(addresses)
    opened: list[socket.socket] = []
    missing: AddressUnavailable | None = None
    try:
        for address in addresses:
            try:
                opened.append(open_tcp(address, flag))
            except AddressUnavailable as error:
                if ":" not in address.host:
                    raise
                missing = error
                log.info("not listening on %s: this machine has no IPv6 loopback", address)
        if missing is not None and not opened:
            raise missing
    except UsageError:
        for listener in opened:
            listener.close()
        raise
    return opened


def open_public(address: Address, flag: str = "") -> list[socket.socket]:
    """Return listening sockets for an address that others may reach; for all addresses one of IPv4 and one of IPv6.

    A family that this machine lacks is skipped. Where port 0 lets the kernel choose, both get the same.

    Raises:
        UsageError: as `open_tcp`, or the machine has neither family; no socket stays open.
    """
    if address.host:
        return [open_tcp(address, flag)]
    opened: list[socket.socket] = []
    port = address.port
    missing: AddressUnavailable | None = None
    for host in _ANY:
        try:
            opened.append(open_tcp(Address(host, port), flag))
            port = port or opened[0].getsockname()[1]
        except AddressUnavailable as error:
            missing = error
            log.info("not listening on %s: this machine does not have that family", Address(host, port))
        except UsageError:
            for listener in opened:
                listener.close()
            raise
    if missing is not None and not opened:
        raise missing
    return opened


def open_tcp(address: Address, flag: str = "") -> socket.socket:
    """Return a bound, listening, non-blocking socket. Port 0 lets the kernel choose; `flag` as in `open_loopback`.

    Raises:
        PortTaken: another program listens there.
        AddressUnavailable: no interface of this machine has the address, or the family is switched off.
        UsageError: the name does not resolve, or the port is a privileged one.
    """
    try:
        family, kind, protocol, _, endpoint = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"cannot listen on {address}: the host name does not resolve") from error
    try:
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressUnavailable(f"cannot listen on {address}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart must not wait for TIME_WAIT
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(endpoint)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _tcp_refusal(address, flag, error) from error
    listener.setblocking(False)
    return listener


def _tcp_refusal(address: Address, flag: str, error: OSError) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(f"{flag} {address} is taken; stop what listens there, or give another".lstrip())
    if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
        return AddressUnavailable(f"cannot listen on {address}: this machine does not have the address")
    return UsageError(f"cannot listen on {address}: {error.strerror}")


def open_unix(path: Path, mode: int) -> socket.socket:
    """Return a listening unix socket at `path` with permissions `mode`; the file of a dead process is replaced.

    Raises:
        PortTaken: a living process listens there.
        UsageError: the path is too long, is another kind of file, or cannot be created.
    """
    size = len(os.fsencode(path))
    if size > UNIX_PATH_BYTES_MAX:
        raise UsageError(f"the socket path {path} has {size} bytes; Linux allows {UNIX_PATH_BYTES_MAX}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear_stale(path)
        listener.bind(str(path))
        path.chmod(mode)  # nobody can connect yet: that needs listen
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on the unix socket {path}: {error.strerror}") from error
    except UsageError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _clear_stale(path: Path) -> None:
    """Remove the socket file at `path` if no process answers behind it."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise UsageError(f"{path} exists and is not a socket; move it away or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except (BlockingIOError, TimeoutError):  # its backlog is full: alive all the more
            pass
    raise PortTaken(f"another process listens on the unix socket {path}; stop it or choose another path")


def remove_unix(listeners: Sequence[socket.socket]) -> None:
    """Remove the files of those `listeners` that are unix sockets; call before they are closed.

    A file that was left behind would only be replaced at the next start; it is removed so that clients see at once
    that nobody listens.
    """
    for listener in listeners:
        if listener.family == socket.AF_UNIX and listener.fileno() >= 0:
            Path(listener.getsockname()).unlink(missing_ok=True)
