"""How the flags of `wavekv serve` become one member's settings, and which of them go together.

What cannot work, or would be ignored, is refused before anything is touched (exit code 2),
with the flag to change: an option is never dropped in silence.

- The data planes speak no TLS and know no users, so they listen on loopback alone.
- The peer plane listens with mutual TLS, or in plain on loopback with --insecure-peers, or not at all.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from wavekv.cli.engine_settings import EngineFlags, compaction_from, limits_from
from wavekv.config import (
    Address,
    EnrolmentFiles,
    FsyncMode,
    GossipSettings,
    MemberSettings,
    PeerAddress,
    TlsFiles,
    WalSettings,
    parse_address,
)
from wavekv.core.types import U32_MAX
from wavekv.errors import UsageError

OFF = "none"
"""What switches an optional plane off."""

SOCKET_PATH_BYTES_MAX = 107
"""Longest path of a unix socket on Linux (`sun_path` less its closing zero)."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeFlags(EngineFlags):
    """The flags of `serve` as they were given; None or empty where they were not."""

    data_dir: Path
    name: str | None = None
    node_id: int | None = None
    cluster_id: str | None = None
    listen: tuple[str, ...] = ()
    socket: Path | None = None
    allow_host: tuple[str, ...] = ()
    resp_listen: tuple[str, ...] = ()
    peer_listen: str | None = None
    metrics_listen: str | None = None
    peer: tuple[str, ...] = ()
    crate_peer: tuple[str, ...] = ()
    membership: Path | None = None
    bootstrap: bool = False
    discover_dns: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    enrol_token: Path | None = None
    insecure_peers: bool = False
    gossip_interval_ms: int | None = None
    fsync_mode: FsyncMode | None = None


def settings_from(flags: ServeFlags) -> MemberSettings:
    """Return the settings that `flags` ask for; the defaults are those of MemberSettings.

    Raises:
        UsageError: a flag that is malformed, or does not go with another.
    """
    default = MemberSettings(data_dir=flags.data_dir)
    if flags.node_id is not None and not 1 <= flags.node_id <= U32_MAX:
        raise UsageError(f"--node-id {flags.node_id} is outside 1…{U32_MAX}")
    if flags.name is not None:
        member_name("--name", flags.name)
    tls, enrolment = _tls(flags)
    secure = tls is not None or enrolment is not None
    return replace(
        default,
        name=flags.name,
        node_id=flags.node_id,
        cluster_id=cluster_id_from(flags.cluster_id),
        listen=_loopback("--listen", flags.listen) or default.listen,
        socket=_socket(flags),
        allow_hosts=_allow_hosts(flags),
        resp_listen=_resp(flags.resp_listen, default.resp_listen),
        peer_listen=_peer_listen(flags, secure, default.peer_listen),
        metrics_listen=parse_address(flags.metrics_listen) if flags.metrics_listen else default.metrics_listen,
        peers=_peers(flags, secure),
        membership=flags.membership,
        bootstrap=flags.bootstrap,
        discover_dns=_discover_dns(flags, default.peer_listen.port),
        tls=tls,
        enrolment=enrolment,
        insecure_peers=flags.insecure_peers,
        limits=limits_from(flags),
        compaction=compaction_from(flags),
        gossip=_gossip(flags.gossip_interval_ms),
        wal=WalSettings(fsync_mode=flags.fsync_mode or default.wal.fsync_mode),
    )


def _tls(flags: ServeFlags) -> tuple[TlsFiles | None, EnrolmentFiles | None]:
    """Return the given certificate, or what a member needs that makes its own key; neither: there is no TLS."""
    given = {"--tls-cert": flags.tls_cert, "--tls-key": flags.tls_key, "--tls-ca": flags.tls_ca}
    missing = [name for name, path in given.items() if path is None]
    if flags.insecure_peers and (len(missing) < len(given) or flags.enrol_token is not None):
        raise UsageError("--insecure-peers and the --tls flags, --enrol-token too, exclude each other; drop one")
    if flags.tls_cert is not None and flags.tls_key is not None and flags.tls_ca is not None:
        if flags.enrol_token is not None:
            raise UsageError("--enrol-token is for a member that makes its own key; drop it, or --tls-cert")
        return TlsFiles(cert=flags.tls_cert, key=flags.tls_key, ca=flags.tls_ca), None
    if flags.tls_ca is not None and len(missing) == 2:
        if flags.name is None:
            raise UsageError("--tls-ca without --tls-cert: the member makes its own key, and needs a --name for it")
        return None, EnrolmentFiles(flags.tls_ca, flags.enrol_token)
    if len(missing) < len(given):
        raise UsageError(f"TLS needs certificate, key and authority; {' and '.join(missing)} missing")
    needing = "--enrol-token" if flags.enrol_token is not None else _needs_peers(flags)
    if needing and not flags.insecure_peers:
        raise UsageError(
            f"{needing} needs the peer plane: give --tls-cert, --tls-key and --tls-ca (wavekv certs makes them), "
            "or --insecure-peers for members on loopback alone"
        )
    return None, None


def _needs_peers(flags: ServeFlags) -> str | None:
    """Return the first given flag that means nothing without a peer plane."""
    if flags.peer:
        return "--peer"
    if flags.crate_peer:
        return "--crate-peer"
    if flags.membership is not None:
        return "--membership"
    if flags.discover_dns is not None:
        return "--discover-dns"
    return "--peer-listen" if flags.peer_listen else None


def member_name(flag: str, text: str) -> str:
    """Return a member's name as it was given.

    Raises:
        UsageError: it cannot be one.
    """
    if not _NAME.fullmatch(text):
        raise UsageError(f"{flag} {text!r}: use letters, digits, dots, dashes and underscores")
    return text


def cluster_id_from(text: str | None) -> str | None:
    """Return a cluster id in its one form, None where none was given.

    Raises:
        UsageError: it is no UUID.
    """
    if text is None:
        return None
    try:
        return str(UUID(text))
    except ValueError as error:
        raise UsageError(f"--cluster-id {text!r} is not a UUID; make one with `uuidgen`") from error


def is_loopback(host: str) -> bool:
    """Tell whether `host` can only be this machine: `localhost` or a loopback address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _loopback(flag: str, texts: Sequence[str]) -> tuple[Address, ...]:
    addresses = tuple(parse_address(text) for text in texts)
    for address in addresses:
        if not is_loopback(address.host):
            raise UsageError(
                f"{flag} {address}: the data planes have no access control and listen on loopback alone; "
                "use 127.0.0.1, [::1], or the unix socket"
            )
    return addresses


def _resp(texts: tuple[str, ...], default: tuple[Address, ...]) -> tuple[Address, ...]:
    if OFF not in texts:
        return _loopback("--resp-listen", texts) or default
    if len(texts) > 1:
        raise UsageError(f"--resp-listen {OFF} switches the plane off; drop the other addresses")
    return ()


def _socket(flags: ServeFlags) -> Path | None:
    path = flags.socket or flags.data_dir / "wavekv.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise UsageError(
            f"the unix socket's path {str(path)!r} is longer than {SOCKET_PATH_BYTES_MAX} bytes; "
            "give a shorter one with --socket"
        )
    return flags.socket


def _allow_hosts(flags: ServeFlags) -> tuple[str, ...]:
    for name in flags.allow_host:
        if not _NAME.fullmatch(name):
            raise UsageError(f"--allow-host {name!r} is not the name of a host; give it without a scheme and a port")
    return tuple(name.lower() for name in flags.allow_host)


def _peer_listen(flags: ServeFlags, secure: bool, default: Address) -> Address:
    if flags.insecure_peers:
        address = parse_address(flags.peer_listen) if flags.peer_listen else Address("127.0.0.1", default.port)
        if not is_loopback(address.host):
            raise UsageError(
                f"--insecure-peers with --peer-listen {address}: members without TLS meet on loopback alone; "
                "use 127.0.0.1, or give the --tls flags"
            )
        return address
    assert secure or not flags.peer_listen, "_tls refuses --peer-listen without a plane"
    return parse_address(flags.peer_listen) if flags.peer_listen else default


def _peers(flags: ServeFlags, secure: bool) -> tuple[PeerAddress, ...]:
    peers = tuple(_peer("--peer", text, secure) for text in flags.peer)
    peers += tuple(replace(_peer("--crate-peer", text, secure), crate=True) for text in flags.crate_peer)
    if flags.crate_peer and flags.membership is not None:
        raise UsageError("--crate-peer and --membership exclude each other: the original system knows no epochs")
    names = [peer.name for peer in peers]
    for peer in peers:
        flag = "--crate-peer" if peer.crate else "--peer"
        if names.count(peer.name) > 1:
            raise UsageError(f"{flag} {peer.name} is given twice; each peer needs a name of its own")
        if peer.name == flags.name:
            raise UsageError(f"{flag} {peer.name} is this member's own --name; list the others alone")
    return peers


def _peer(flag: str, text: str, secure: bool) -> PeerAddress:
    example = "NAME=https://HOST:7072" if secure else "NAME=http://127.0.0.1:7072"
    name, equals, url = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise UsageError(f"{flag} {text!r} is not NAME=URL; for example {example}")
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port != 0 else None
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: {error}; for example {example}") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        raise UsageError(f"{flag} {text!r} has no usable URL; for example {example}")
    if parts.scheme == "https" and not secure:
        raise UsageError(f"{flag} {text!r}: https needs --tls-cert, --tls-key and --tls-ca")
    if parts.scheme == "http" and secure:
        raise UsageError(f"{flag} {text!r}: with TLS peers are asked over https alone")
    if parts.scheme == "http" and not is_loopback(host):
        raise UsageError(f"{flag} {text!r}: --insecure-peers reaches loopback alone; other hosts need the --tls flags")
    return PeerAddress(name=name, url=url.rstrip("/"))


def _discover_dns(flags: ServeFlags, default_port: int) -> Address | None:
    text = flags.discover_dns
    if text is None:
        return None
    if flags.peer or flags.crate_peer:
        raise UsageError("--discover-dns finds the peers that --peer names; drop one of them")
    host, _, port = text.partition(":")
    if not port:
        port = str(parse_address(flags.peer_listen).port if flags.peer_listen else default_port)
    if not _NAME.fullmatch(host.removesuffix(".")) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            f"--discover-dns {text!r} is not NAME or NAME:PORT; give a name that resolves to all members, "
            "for example demo-peers.default.svc:7072"
        )
    return Address(host, int(port))


def _gossip(interval_ms: int | None) -> GossipSettings:
    if interval_ms is None:
        return GossipSettings()
    if interval_ms < 1:
        raise UsageError(f"--gossip-interval-ms {interval_ms}: give at least 1")
    return GossipSettings(interval_ms=interval_ms)
