"""What `wavekv local` is about to start: names, ports, folders and the flags of each member.

Member i listens at base + 10 i and the three ports behind it. One cluster id is kept with the data, so that the members
of a folder know each other again whatever their number and ports are later.
"""

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from wavekv.cli.certs import DAYS_MAX, files_of, make, usable
from wavekv.cli.engine_settings import EngineFlags, engine_arguments
from wavekv.cli.whole_file import whole_file
from wavekv.config import VOLUME_LIMITS
from wavekv.errors import DirectoryUnusable, PortTaken, UsageError
from wavekv.volume import parse_json, read_file

HOST = "127.0.0.1"
PORTS_APART = 10
_OTHER_PORTS: Final = (
    "stop what listens there, or choose others above 1023: wavekv local --base-port 17070, "
    'or make local ARGS="--base-port 17070"'
)


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """One member: its name, the first of its four ports, and where its data and log go."""

    name: str
    port: int
    data_dir: Path
    log: Path

    @property
    def url(self) -> str:
        """The data plane, HTTP."""
        return f"http://{HOST}:{self.port}"

    @property
    def resp_port(self) -> int:
        """The data plane, Redis protocol."""
        return self.port + 1

    @property
    def peer_port(self) -> int:
        """The peer plane."""
        return self.port + 2

    @property
    def metrics_port(self) -> int:
        """Probes and metrics."""
        return self.port + 3


def plan_members(count: int, base_port: int, data_dir: Path) -> tuple[MemberPlan, ...]:
    """Return the members of a cluster of `count`.

    Raises:
        UsageError: the ports would not fit below 65536.
    """
    if base_port < 1 or base_port + PORTS_APART * (count - 1) + 3 > 65535:
        raise UsageError(f"--base-port {base_port} leaves no room for {count} members below port 65536; {_OTHER_PORTS}")
    return tuple(
        MemberPlan(f"m{i}", base_port + PORTS_APART * i, data_dir / f"m{i}", data_dir / "logs" / f"m{i}.log")
        for i in range(count)
    )


def serve_arguments(
    member: MemberPlan, members: Sequence[MemberPlan], cluster_id: str, certificates: Path, engine: EngineFlags
) -> list[str]:
    """Return the arguments of `wavekv` that run `member` among `members`, with what `engine` was given.

    `certificates` is the folder of all members' certificates.
    """
    arguments = ["serve", "--name", member.name, "--data-dir", str(member.data_dir), "--cluster-id", cluster_id]
    arguments += ["--listen", f"{HOST}:{member.port}", "--resp-listen", f"{HOST}:{member.resp_port}"]
    arguments += ["--peer-listen", f"{HOST}:{member.peer_port}", "--metrics-listen", f"{HOST}:{member.metrics_port}"]
    files = files_of(certificates, member.name)
    arguments += ["--tls-cert", str(files.cert), "--tls-key", str(files.key), "--tls-ca", str(files.ca)]
    for peer in members:
        if peer is not member:
            arguments += ["--peer", f"{peer.name}=https://{HOST}:{peer.peer_port}"]
    return arguments + engine_arguments(engine)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without WAVEKV_*: a member is told by its flags alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WAVEKV_")}


def check_ports(members: Sequence[MemberPlan]) -> None:
    """Find out whether every port is free.

    Raises:
        PortTaken: one is not.
    """
    for member in members:
        for port in range(member.port, member.metrics_port + 1):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise PortTaken(
                        f"port {port} (member {member.name}) cannot be used: {error.strerror}; {_OTHER_PORTS}"
                    ) from error


def certificates_of(data_dir: Path, cluster_id: str, members: Sequence[MemberPlan]) -> Path:
    """Return the folder of the members' certificates in `data_dir`, where each has one that the others take.

    Those that are missing, spoiled or used up are made anew.

    Raises:
        UsageError: the kept authority cannot be used.
        DirectoryUnusable: the folder cannot be made or written.
    """
    folder = data_dir / "certificates"
    lacking = [member.name for member in members if not usable(folder, cluster_id, member.name)]
    if lacking:
        make(folder, cluster_id, lacking, hosts=(HOST,), days=DAYS_MAX, force=True)
    return folder


def _ignore(data_dir: Path) -> None:
    """Keep what a cluster leaves, keys among it, out of a repository that the folder lies in."""
    note = data_dir / ".gitignore"
    if not note.exists():
        note.write_text("*\n")


def cluster_id_of(data_dir: Path) -> str:
    """Return the cluster id kept in `data_dir`; a new one is made for a new folder.

    Raises:
        DirectoryUnusable: the folder cannot be made or written, or its file is not one of ours.
    """
    path = data_dir / "cluster.json"
    try:
        (data_dir / "logs").mkdir(parents=True, exist_ok=True)
        _ignore(data_dir)
        return str(UUID(parse_json(read_file(path, VOLUME_LIMITS.document_bytes_max, named=True))["cluster_id"]))
    except FileNotFoundError:
        cluster_id = str(uuid4())
        with whole_file(path) as output:
            output.write(json.dumps({"cluster_id": cluster_id}).encode() + b"\n")
        return cluster_id
    except OSError as error:
        raise DirectoryUnusable(f"--data-dir {data_dir}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DirectoryUnusable(f"{path} holds no cluster id; move it away, or give another --data-dir") from error
