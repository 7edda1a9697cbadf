"""`wavekv-operator`: the operator's entry point, told by flags or by the environment variables beside them."""

import asyncio
import logging
import signal
import sys
from datetime import timedelta
from typing import Any

import click

from wavekv_operator import __version__
from wavekv_operator.errors import OperatorError, UsageError
from wavekv_operator.settings import Settings


@click.group()
@click.version_option(__version__, prog_name="wavekv-operator")
def root() -> None:
    """Run WaveKV clusters on Kubernetes."""


@root.command()
def crd() -> None:
    """Print the CustomResourceDefinition as YAML; needs no cluster."""
    from wavekv_operator.crd import crd_yaml  # noqa: PLC0415 - the other commands do without it

    click.echo(crd_yaml(), nl=False)


@root.command()
@click.option("--member-image", envvar="WAVEKV_MEMBER_IMAGE", required=True, help="Image of members that name none.")
@click.option(
    "--member-image-pull-policy",
    envvar="WAVEKV_MEMBER_IMAGE_PULL_POLICY",
    type=click.Choice(["Always", "IfNotPresent", "Never"]),
    help="Its pull policy.  [default: Kubernetes']",
)
@click.option(
    "--namespace",
    "namespaces",
    envvar="WAVEKV_NAMESPACES",
    multiple=True,
    help="Namespace to serve. Repeatable, or several separated by commas.  [default: all]",
)
@click.option("--cluster-domain", envvar="WAVEKV_CLUSTER_DOMAIN", default="cluster.local", show_default=True)
@click.option(
    "--listen",
    envvar="WAVEKV_OPERATOR_LISTEN",
    metavar="HOST:PORT",
    default=":8080",
    help="Probes and metrics.  [default: all addresses, port 8080]",
)
@click.option(
    "--resync-seconds",
    envvar="WAVEKV_RESYNC_SECONDS",
    type=click.FloatRange(1, 3600),
    default=30,
    show_default=True,
    help="Quiet clusters are looked at this often.",
)
@click.option(
    "--certificate-hours",
    envvar="WAVEKV_CERTIFICATE_HOURS",
    type=click.FloatRange(0.05, 87_600),
    default=2160,
    show_default=True,
    help="Life of a leaf certificate; renewed after two thirds.",
)
@click.option(
    "--allow-unsafe-templates",
    envvar="WAVEKV_ALLOW_UNSAFE_TEMPLATES",
    is_flag=True,
    default=False,
    help="Build pods with access to the host if a template asks for it.",
)
@click.option("--log-format", envvar="WAVEKV_LOG_FORMAT", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--log-level",
    envvar="WAVEKV_LOG_LEVEL",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def run(log_format: str, log_level: str, **flags: Any) -> int:
    """Run the operator until SIGTERM."""
    settings = settings_from(**flags)
    from wavekv_operator import logs  # noqa: PLC0415 - kopf is loaded only to run

    logs.set_up_logging(log_format, log_level)
    return asyncio.run(_run(settings))


def settings_from(
    *,
    member_image: str,
    member_image_pull_policy: str | None,
    namespaces: tuple[str, ...],
    cluster_domain: str,
    listen: str,
    resync_seconds: float,
    certificate_hours: float,
    allow_unsafe_templates: bool,
) -> Settings:
    """Return the settings that the flags ask for.

    Raises:
        UsageError: one of them is malformed.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--listen {listen!r} is not HOST:PORT; for example [::1]:8080, or :8080 for all addresses")
    if not member_image.strip():
        raise UsageError("--member-image is empty; give the image that `make images` built")
    listed = tuple(name for text in namespaces for name in text.replace(",", " ").split())
    return Settings(
        member_image=member_image.strip(),
        member_image_pull_policy=member_image_pull_policy,
        namespaces=listed,
        cluster_domain=cluster_domain.strip("."),
        listen_host=host.strip("[]") or None,
        listen_port=int(port),
        resync_seconds=resync_seconds,
        certificate_life=timedelta(hours=certificate_hours),
        allow_unsafe_templates=allow_unsafe_templates,
    )


async def _run(settings: Settings) -> int:
    from wavekv_operator import handlers  # noqa: PLC0415 - kopf is loaded only to run

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    logging.getLogger(__name__).info("wavekv-operator %s: serving %s", __version__, settings.namespaces or "all")
    await handlers.run(settings, stop)
    return 0


def main() -> int:
    """Run the command line; return its exit code: 0 ok, 1 failed, 2 usage."""
    try:
        result = root.main(standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OperatorError as error:
        print(f"wavekv-operator: {error.detail} [{error.code}]", file=sys.stderr)  # noqa: T201 - the last word
        return 2 if isinstance(error, UsageError) else 1
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
