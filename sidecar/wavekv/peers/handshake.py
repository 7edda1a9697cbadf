"""Whether others would take a certificate: found out by a handshake with itself, in memory.

Both ends show the certificate and check the other's, so that chain, dates, key usages and the fit of the key are judged
by the very code that peers judge them with, and its names come decoded as peers see them. The alternative, a library
that reads certificates, takes a tenth of a second to import at every start and might judge otherwise.
"""

import ssl
from dataclasses import dataclass
from typing import Any, Final

from wavekv.config import TlsFiles
from wavekv.peers.tls import client_context, server_context

_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for."""
_TURNS_MAX: Final = 10
"""A handshake takes three."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A certificate that was taken: decoded as `ssl` does, and its bytes (DER)."""

    decoded: dict[str, Any]
    der: bytes


def judge(files: TlsFiles) -> Judged:
    """Return the certificate in `files`, which whoever trusts its authorities takes now.

    Raises:
        UsageError: a file cannot be used, or key and certificate do not fit.
        ssl.SSLError: peers would refuse it; `verify_message` says why.
    """
    return _shake(server_context(files), client_context(files))


def read(files: TlsFiles) -> Judged:
    """Return the certificate in `files` whoever signed it and whatever its dates are.

    Raises: as `judge`.
    """
    itself = TlsFiles(files.cert, files.key, ca=files.cert)
    contexts = server_context(itself), client_context(itself)
    for context in contexts:
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME) | ssl.VERIFY_X509_PARTIAL_CHAIN
    return _shake(*contexts)


def _shake(server: ssl.SSLContext, client: ssl.SSLContext) -> Judged:
    client.check_hostname = False
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    near, pending = ends[0], list(ends)
    for _ in range(_TURNS_MAX):
        pending = [end for end in pending if not _finished(end)]
        if not pending:
            decoded, der = near.getpeercert(), near.getpeercert(binary_form=True)
            assert decoded is not None, "both ends check the other's certificate"
            assert der is not None, "both ends show a certificate"
            return Judged(decoded, der)
    raise ssl.SSLError("the handshake does not end")


def _finished(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
