"""`wavekv local`: a whole cluster on this machine, for trials and development, under one supervisor.

Each member has a certificate of its own, made in the data folder, so that no other program passes for one. It
ends with 0 on Ctrl-C or SIGTERM, after every member has stopped.
"""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from wavekv.cli.engine_settings import EngineFlags, compaction_from, engine_options, limits_from
from wavekv.cli.local_plan import certificates_of, check_ports, cluster_id_of, plan_members, serve_arguments
from wavekv.cli.local_view import Lines, Screen, greeting
from wavekv.cli.supervisor import Supervised, Supervisor, tethered


@click.command()
@click.option("--members", type=click.IntRange(1, 32), default=3, show_default=True, help="How many.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("wavekv-local"), show_default=True)
@click.option("--base-port", type=int, default=7070, show_default=True, help="Member i: this + 10 i and the 3 behind.")
@engine_options(environment=False)
@click.option("--plain", is_flag=True, help="Lines instead of a live table.")
def local(members: int, data_dir: Path, base_port: int, plain: bool, **engine: Any) -> None:
    """Run a cluster of several members on this machine until Ctrl-C.

    Member i answers HTTP at base port + 10 i, the Redis protocol one above, peers two above, metrics three above.
    Limits and the folding of the log are handed on to every member.
    """
    flags = EngineFlags(**engine)
    # A mistake is told here, once, and not by each member in its log.
    limits_from(flags)
    compaction_from(flags)
    plans = plan_members(members, base_port, data_dir)
    check_ports(plans)
    cluster_id = cluster_id_of(data_dir)
    certificates = certificates_of(data_dir, cluster_id, plans)
    supervised = [
        Supervised(plan, tethered(serve_arguments(plan, plans, cluster_id, certificates, flags))) for plan in plans
    ]
    click.echo(greeting(plans, data_dir))
    view = Lines(supervised) if plain or not sys.stdout.isatty() else Screen(supervised)
    try:
        asyncio.run(_until_stopped(Supervisor(supervised, view.tell), view))
    finally:
        view.close()
    click.echo(f"stopped; data stays in {data_dir}")


async def _until_stopped(supervisor: Supervisor, view: Lines | Screen) -> None:
    work = asyncio.ensure_future(supervisor.run(view.refresh))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with suppress(asyncio.CancelledError):
        await work
