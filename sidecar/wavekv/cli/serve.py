"""`wavekv serve`: one member, told by flags or by the `WAVEKV_*` variables of the same names.

This is the one place of the member that reads the environment, when the command runs and never at import.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click

from wavekv.cli.engine_settings import engine_options
from wavekv.cli.logs import set_up_logging
from wavekv.cli.serve_settings import ServeFlags, settings_from
from wavekv.config import FsyncMode

_AUTHORITIES = "SSL_CERT_FILE"
"""OpenSSL's own variable: the file of authorities to trust by default."""


class _Words(click.ParamType[str]):
    """A repeatable flag whose variable holds several words, separated by commas or white space."""

    name = "text"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Return the words of one environment variable."""
        return rv.replace(",", " ").split()


_PATH = click.Path(path_type=Path)


@contextmanager
def _without_system_authorities() -> Iterator[None]:
    """Let OpenSSL find no certificates of the system inside the block.

    aiohttp makes two TLS contexts with all of them when it is imported, a fifth of the imports of a start
    (`bench/engine.py`). A member trusts the authority it is given and no other, and asks nobody but its peers.
    """
    before = os.environ.get(_AUTHORITIES)
    os.environ[_AUTHORITIES] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[_AUTHORITIES]
        else:
            os.environ[_AUTHORITIES] = before


@click.command(short_help="Run one member.")
@click.option("--data-dir", envvar="WAVEKV_DATA_DIR", type=_PATH, required=True, help="Where the member's log lives.")
@click.option("--name", envvar="WAVEKV_NAME", help="Member name.  [default: node- and the node id in hex]")
@click.option("--node-id", envvar="WAVEKV_NODE_ID", type=int, help="Node id of a new directory.  [default: random]")
@click.option("--cluster-id", envvar="WAVEKV_CLUSTER_ID", metavar="UUID", help="Refuse members of other clusters.")
@click.option(
    "--listen",
    envvar="WAVEKV_LISTEN",
    metavar="HOST:PORT",
    multiple=True,
    type=_Words(),
    help="Data plane, HTTP; loopback alone. Repeatable.  [default: 127.0.0.1:7070 and [::1]:7070]",
)
@click.option("--socket", envvar="WAVEKV_SOCKET", type=_PATH, help="Unix socket.  [default: DATA_DIR/wavekv.sock]")
@click.option(
    "--allow-host",
    envvar="WAVEKV_ALLOW_HOST",
    metavar="NAME",
    multiple=True,
    type=_Words(),
    help="Serve requests whose Host is this name too, as of a service of compose. Repeatable.",
)
@click.option(
    "--resp-listen",
    envvar="WAVEKV_RESP_LISTEN",
    metavar="HOST:PORT|none",
    multiple=True,
    type=_Words(),
    help="Data plane, Redis protocol; loopback alone. Repeatable.  [default: 127.0.0.1:7071 and [::1]:7071]",
)
@click.option(
    "--peer-listen",
    envvar="WAVEKV_PEER_LISTEN",
    metavar="HOST:PORT",
    help="Peer and admin plane. Without --tls-* and --insecure-peers it does not listen at all.  "
    "[default: all addresses, port 7072; with --insecure-peers 127.0.0.1:7072]",
)
@click.option(
    "--metrics-listen",
    envvar="WAVEKV_METRICS_LISTEN",
    metavar="HOST:PORT",
    help="Probes and metrics; holds no data.  [default: all addresses, port 7073]",
)
@click.option(
    "--peer",
    envvar="WAVEKV_PEER",
    metavar="NAME=URL",
    multiple=True,
    type=_Words(),
    help="Another member. Repeatable; several in the variable, separated by commas.",
)
@click.option(
    "--crate-peer",
    envvar="WAVEKV_CRATE_PEER",
    metavar="NAME=URL",
    multiple=True,
    type=_Words(),
    help="A node of the original system, which sends no name; its certificate has to. Repeatable, as --peer.",
)
@click.option(
    "--membership", envvar="WAVEKV_MEMBERSHIP", type=_PATH, help="Membership document; followed if it changes."
)
@click.option("--bootstrap", envvar="WAVEKV_BOOTSTRAP", is_flag=True, help="Found a new cluster: wait for no peer.")
@click.option(
    "--discover-dns",
    envvar="WAVEKV_DISCOVER_DNS",
    metavar="NAME[:PORT]",
    help="Find peers by a name that resolves to all members.  [default port: that of --peer-listen]",
)
@click.option("--tls-cert", envvar="WAVEKV_TLS_CERT", type=_PATH, help="Certificate of this member, PEM.")
@click.option("--tls-key", envvar="WAVEKV_TLS_KEY", type=_PATH, help="Its private key, PEM.")
@click.option(
    "--tls-ca",
    envvar="WAVEKV_TLS_CA",
    type=_PATH,
    help="Authority of members and operator, PEM. "
    "Without --tls-cert the member makes its own key, which an operator signs.",
)
@click.option(
    "--enrol-token", envvar="WAVEKV_ENROL_TOKEN", type=_PATH, help="Token that proves the pod to the operator."
)
@click.option(
    "--insecure-peers",
    envvar="WAVEKV_INSECURE_PEERS",
    is_flag=True,
    help="Peers without TLS, on loopback alone; admin routes then answer 403.",
)
@click.option("--gossip-interval-ms", envvar="WAVEKV_GOSSIP_INTERVAL_MS", type=int, help="Mean time between exchanges.")
@click.option(
    "--fsync-mode",
    envvar="WAVEKV_FSYNC_MODE",
    type=click.Choice(get_args(FsyncMode)),
    help="Sync on a thread of its own, in the event loop, or whichever is fast.  [default: thread]",
)
@engine_options(environment=True)
@click.option(
    "--log-format", envvar="WAVEKV_LOG_FORMAT", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@click.option(
    "--log-level",
    envvar="WAVEKV_LOG_LEVEL",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def serve(log_format: str, log_level: str, **flags: Any) -> int:
    """Run one member until SIGTERM or Ctrl-C.

    Every flag can be given as an environment variable instead: WAVEKV_ and its name, as in WAVEKV_DATA_DIR; a
    repeatable one takes several values separated by commas. A flag that is given replaces its default.
    """
    settings = settings_from(ServeFlags(**flags))
    # Flags are checked before the engine is loaded: a mistyped one answers at once.
    with _without_system_authorities():
        from wavekv.cli.process import run_member  # noqa: PLC0415

    set_up_logging(log_format, log_level)
    return run_member(settings)
