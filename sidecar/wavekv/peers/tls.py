"""Who may speak on the peer plane: mutual TLS by the cluster's authority, roles by URI SAN.

A certificate issued by the operator carries `wavekv://CLUSTER_ID/member` or `…/operator`. Where one carries such a
URI, cluster and role have to fit; one without (a team's own authority, static peers) passes as a member of whatever
cluster trusts that authority.
"""

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from wavekv.config import TlsFiles
from wavekv.errors import ForeignCluster, UsageError, WrongRole

Role = Literal["member", "operator"]

_SCHEME = "wavekv://"


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context that demands a client certificate signed by `files.ca`.

    Raises:
        UsageError: a file is missing, unreadable, or not what it should be.
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
        raise UsageError(f"cannot use certificate {files.cert} with key {files.key}: {error}") from error
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"cannot use the authority {files.ca}: {error}") from error
    return context


def check_role(certificate: Mapping[str, Any] | None, cluster_id: str | None, allowed: Sequence[Role]) -> None:
    """Check the URI SAN of a verified certificate (None: a plain connection, which only loopback allows).

    Raises:
        ForeignCluster: the certificate is of another cluster.
        WrongRole: its role is not in `allowed`.
    """
    names = certificate.get("subjectAltName", ()) if certificate else ()
    uris = [value for kind, value in names if kind == "URI" and value.startswith(_SCHEME)]
    for uri in uris:
        cluster, _, role = uri.removeprefix(_SCHEME).partition("/")
        if cluster_id is not None and cluster != cluster_id:
            raise ForeignCluster(f"the certificate is of cluster {cluster}, this member of {cluster_id}")
        if role not in allowed:
            raise WrongRole(f"a certificate of role {role!r} may not speak here; allowed: {', '.join(allowed)}")
