"""Whom a verified certificate names, and what it may say: a member speaks for itself alone.

A certificate of the operator's authority carries one URI, `wavekv://CLUSTER_ID/member/NAME` or
`wavekv://CLUSTER_ID/operator`. Where there is such a URI, cluster, role and name have to fit. One without, of a team's
own authority, is a member's and nothing else's; it names whom one of its DNS names equals or begins with (`m0`,
`m0.example.org`; a wildcard names nobody), or its common name where it has no DNS names.

A message of the original system has no name. It is taken only from nodes that are configured, whose certificate has to
name one of them; the rest of the member then knows which.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from wavekv.core.messages import Envelope
from wavekv.errors import ForeignCluster, WrongName, WrongRole

Role = Literal["member", "operator"]

_SCHEME = "wavekv://"
_SHOWN_MAX = 3
"""Names of a certificate that a refusal lists."""

Certificate = Mapping[str, Any]
"""A verified certificate as `ssl` decodes it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Who showed a certificate: a role, and the names it may speak under."""

    role: Role
    names: frozenset[str]

    def speaks_for(self, name: str) -> bool:
        """Tell whether the certificate names the member `name`."""
        return name in self.names

    def __str__(self) -> str:
        """Return the names, as a refusal shows them."""
        some = sorted(self.names)[:_SHOWN_MAX]
        return ", ".join(repr(name[:80]) for name in some) or "nobody"


def member_uri(cluster_id: str, name: str) -> str:
    """Return the URI that names a member in its certificate."""
    return f"{_SCHEME}{cluster_id}/member/{name}"


def identify(certificate: Certificate, cluster_id: str | None) -> Shown:
    """Return whom a verified certificate names.

    Raises:
        ForeignCluster: it is of another cluster.
        WrongRole: its URI has no role that there is, or names nobody.
    """
    alternatives = certificate.get("subjectAltName", ())
    uris = [value for kind, value in alternatives if kind == "URI" and value.startswith(_SCHEME)]
    if len(uris) > 1:
        raise WrongRole(f"the certificate has {len(uris)} identities of the kind {_SCHEME}; it may have one")
    if not uris:
        return Shown("member", _own_authority(certificate, alternatives))
    cluster, _, rest = uris[0].removeprefix(_SCHEME).partition("/")
    if cluster_id is not None and cluster != cluster_id:
        raise ForeignCluster(f"the certificate is of cluster {cluster[:80]!r}, this member of {cluster_id}")
    if rest == "operator":
        return Shown("operator", frozenset())
    role, _, name = rest.partition("/")
    if rest == "member":
        raise WrongRole(
            f"the certificate {uris[0]} is shared by all members and names none of them; "
            f"each needs one of its own, {member_uri(cluster, 'NAME')}"
        )
    if role != "member" or not name or "/" in name:
        raise WrongRole(f"the certificate's identity {uris[0][:200]!r} has no role known here: member/NAME or operator")
    return Shown("member", frozenset((name,)))


def _own_authority(certificate: Certificate, alternatives: Collection[tuple[str, str]]) -> frozenset[str]:
    """Return the names of a certificate without an identity of ours."""
    hosts = [value for kind, value in alternatives if kind == "DNS"]
    if hosts:
        plain = [host for host in hosts if "*" not in host]
        return frozenset((*plain, *(host.partition(".")[0] for host in plain)))
    subject = certificate.get("subject", ())
    return frozenset(value for part in subject for kind, value in part if kind == "commonName" and "*" not in value)


class Names:
    """Checks of one member: who may speak on its peer plane, and whether a message is its sender's own."""

    def __init__(self, cluster_id: str | None, crates: Collection[str] = ()) -> None:
        """Check for a member of `cluster_id`; `crates` are the configured nodes of the original system."""
        self._cluster_id = cluster_id
        self._crates = frozenset(crates)

    def shown(self, certificate: Certificate | None, role: Role) -> Shown:
        """Return who showed a certificate, if it has `role`.

        Raises:
            ForeignCluster, WrongRole: it may not speak here.
        """
        if not certificate:
            raise WrongRole(f"no certificate was shown; one of role {role!r} is needed")
        found = identify(certificate, self._cluster_id)
        if found.role != role:
            raise WrongRole(f"a certificate of role {found.role!r} may not speak here; one of role {role!r} may")
        return found

    def check(self, shown: Shown, message: Envelope) -> Envelope:
        """Return `message`, which the sender may say; one without a name with the node that said it.

        Raises:
            WrongName: the certificate names somebody else.
        """
        if message.name is not None:
            if not shown.speaks_for(message.name):
                raise WrongName(
                    f"the message is in the name of {message.name[:80]!r}, its sender's certificate of {shown}"
                )
            return message
        crate = next((name for name in sorted(self._crates) if shown.speaks_for(name)), None)
        if crate is None:
            raise WrongName(
                f"a message without a name, shown a certificate of {shown}: nodes of the original system "
                "are served where they are configured, by --crate-peer NAME=URL"
            )
        return replace(message, crate=crate)
