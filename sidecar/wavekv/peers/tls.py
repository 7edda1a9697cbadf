"""Mutual TLS by the cluster's authority, from files that are replaced; `identity` reads whom a certificate names.

Files that change are used for every handshake from then on, on both sides; connections that stand go on. The listening
socket keeps one context for good, which hands each handshake to the newest: binding again was turned down, since it
needs two listeners for a moment. That context issues no tickets: a resumed session would skip the check of a client
whose authority has left the bundle.
"""

import asyncio
import errno
import logging
import ssl
from pathlib import Path

from wavekv.config import TlsFiles
from wavekv.errors import OutOfDescriptors, UsageError

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int] | None, ...]
"""What tells one version of the files from another."""


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context that demands a client certificate signed by `files.ca`.

    Raises:
        UsageError: a file is missing, unreadable, or not what it should be.
        OutOfDescriptors: it cannot be opened now.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context that shows our certificate and checks the server's and its host name.

    Raises:
        UsageError: as for `server_context`.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as error:
        _check_descriptors(error, files.cert)
        raise UsageError(f"cannot use certificate {files.cert} with key {files.key}: {error}") from error
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ssl.SSLError) as error:
        _check_descriptors(error, files.ca)
        raise UsageError(f"cannot use the authority {files.ca}: {error}") from error
    return context


def _check_descriptors(error: OSError, path: Path) -> None:
    """Raise OutOfDescriptors where the file is fine and the process has too many open."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise OutOfDescriptors(f"{path} cannot be opened now: {error.strerror}") from error


class Certificates:
    """The contexts of this member, following its files."""

    def __init__(self, files: TlsFiles) -> None:
        """Load the files. Raises as `server_context`."""
        self._files = files
        self._seen: Stamp | None = self._stamp()
        self._current = (server_context(files), client_context(files))
        self.server = server_context(files)
        """The listener's context, the same for good."""
        self.server.num_tickets = 0
        self.server.sni_callback = self._hand_over

    def client(self) -> ssl.SSLContext:
        """Return the context for a new connection; another object once the files changed."""
        return self._current[1]

    def _hand_over(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Go on with the newest certificate and authority; called in every handshake, with a server name or without."""
        handshake.context = self._current[0]

    async def watch(self) -> None:
        """Look at the files again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._files.poll_ms / 1000)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> bool:
        """Use the files if they changed and fit together; tell whether they are used. Blocks.

        What cannot be used is looked at again only when it changes: a set that is being written is, and one that is
        wrong is complained of once.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self._seen = stamp
        try:
            self._current = (server_context(self._files), client_context(self._files))
        except OutOfDescriptors:
            self._seen = None  # they are looked at again
            return False
        except UsageError as error:
            log.warning("the changed TLS files cannot be used, the old ones stay in use: %s", error.detail)
            return False
        log.info("the TLS files changed; new connections use them")
        return True

    def _stamp(self) -> Stamp:
        """Return what tells one version of the files from another; links are followed, None where a file is missing."""
        return tuple(_file_stamp(path) for path in (self._files.cert, self._files.key, self._files.ca))


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
