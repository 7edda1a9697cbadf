"""`wavekv certs`: certificates for members that no operator enrols, for a desk or a few machines.

What is there is kept, so the same command with one name more adds that one. Members get their own two files and the
authority's certificate, never its key: whoever has that can speak in every name.
"""

import ipaddress
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import click

from wavekv.cli.serve_settings import cluster_id_from, member_name
from wavekv.config import TlsFiles
from wavekv.errors import DirectoryUnusable, UsageError
from wavekv.peers.handshake import judge
from wavekv.peers.identity import member_uri

DAYS_MAX = 3650
AUTHORITY = "authority"
"""Begins the names of the authority's files."""
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
HERE = ("127.0.0.1", "::1", "localhost")
FIRST_PORT = 7070
"""HTTP; the Redis protocol, the peer plane and the metrics are on the three ports behind it."""


def files_of(folder: Path, name: str) -> TlsFiles:
    """Return the files of a member in a folder of certificates."""
    return TlsFiles(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{AUTHORITY}.pem")


@click.command(short_help="Make certificates for members.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), required=True, help="Where they are kept.")
@click.option("--cluster-id", metavar="UUID", help="Of which cluster.  [default: the kept authority's, or a new one]")
@click.option("--name", "names", multiple=True, required=True, help="A member's name. Repeatable.")
@click.option("--host", "hosts", multiple=True, help="Where members are reached. Repeatable.  [default: this machine]")
@click.option("--days", type=click.IntRange(1, DAYS_MAX), default=365, show_default=True, help="How long they last.")
@click.option("--force", is_flag=True, help="Make those anew that are there; the authority stays.")
def certs(
    folder: Path, cluster_id: str | None, names: tuple[str, ...], hosts: tuple[str, ...], *, days: int, force: bool
) -> None:
    """Make an authority and one certificate for each member's name, and print the flags to use.

    Run it again with more names to add members. Keep DIR/authority.key to yourself: it can speak in every name.
    """
    checked = [_usable_name(name) for name in dict.fromkeys(names)]
    for host in hosts:
        _check_host(host)
    made, cluster = make(folder, cluster_id_from(cluster_id), checked, hosts=hosts or HERE, days=days, force=force)
    for name in checked:
        click.echo(f"{name}: {'made' if name in made else 'kept'}, {folder / name}.pem and .key")
    click.echo("\nstart each member with its own, for example:")
    places = places_of(checked, hosts)
    for name in checked:
        others = "".join(
            f" --peer {other}=https://{_in_url(at.host)}:{at.port + 2}" for other, at in places.items() if other != name
        )
        files = files_of(folder, name)
        click.echo(
            f"  wavekv serve --name {name} --data-dir {name} --cluster-id {cluster} --tls-cert {files.cert} "
            f"--tls-key {files.key} --tls-ca {files.ca}{_listening(places[name])}{others}"
        )


class Place(NamedTuple):
    """Where a member may be started: a host, and the first of its four ports."""

    host: str
    port: int


def places_of(names: Sequence[str], hosts: Sequence[str]) -> dict[str, Place]:
    """Return a place for each name: its own host if there are as many, else ports of its own on the first host."""
    if len(hosts) == len(names) > 1:
        return {name: Place(host, FIRST_PORT) for name, host in zip(names, hosts, strict=True)}
    host = hosts[0] if hosts else HERE[0]
    return {name: Place(host, FIRST_PORT + 10 * index) for index, name in enumerate(names)}


def _listening(at: Place) -> str:
    """Return the flags that a member needs to listen elsewhere than where all do by default."""
    if at.port == FIRST_PORT:
        return ""
    planes = (("listen", HERE[0]), ("resp-listen", HERE[0]), ("peer-listen", ""), ("metrics-listen", ""))
    return "".join(f" --{flag} {host}:{at.port + offset}" for offset, (flag, host) in enumerate(planes))


def _usable_name(name: str) -> str:
    if name == AUTHORITY:
        raise UsageError(f"--name {name}: the files of that name are the authority's; use another")
    return member_name("--name", name)


def _check_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        if not _HOST.fullmatch(host):
            raise UsageError(f"--host {host!r} is neither an address nor a host name") from error


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def make(
    folder: Path, cluster_id: str | None, names: Sequence[str], *, hosts: Sequence[str], days: int, force: bool = False
) -> tuple[list[str], str]:
    """Make what is missing of `names`, everything with `force`; return the names made and the cluster's id.

    Raises:
        UsageError: half of a member's files are there, or the authority cannot be used.
        DirectoryUnusable: the folder cannot be made or written.
    """
    from wavekv.cli import authority  # noqa: PLC0415 - a tenth of a second

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DirectoryUnusable(f"{folder} cannot be made: {error.strerror}") from error
    signer = authority.open_authority(folder, cluster_id, str(uuid4()))
    made = [name for name in names if force or not _is_whole(folder, name)]
    for name in made:
        authority.issue(folder, signer, name, hosts=hosts, days=days, force=force)
    return made, signer.cluster_id


def _is_whole(folder: Path, name: str) -> bool:
    """Tell whether a member's two files are there; False: neither is."""
    files = files_of(folder, name)
    there = [path.exists() for path in (files.cert, files.key)]
    if any(there) and not all(there):
        raise UsageError(f"of {files.cert} and {files.key} one is missing; --force makes both anew")
    return all(there)


def usable(folder: Path, cluster_id: str, name: str) -> bool:
    """Tell whether the member `name` has a certificate that others take now."""
    try:
        decoded = judge(files_of(folder, name)).decoded
    except (UsageError, ssl.SSLError):
        return False
    return ("URI", member_uri(cluster_id, name)) in decoded.get("subjectAltName", ())
