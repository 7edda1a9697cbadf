"""The list of commands: which module holds which, imported only when it is asked for.

A member's start-up and a shell loop around `wavekv get` both pay for imports, so the group knows its commands by
name alone. Click's decorators on one group were turned down: they import every command for any of them.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import Final

import click

from wavekv import __version__
from wavekv.cli.interrupts import raise_again

COMMANDS = {
    "serve": ("wavekv.cli.serve:serve", "Run one member."),
    "local": ("wavekv.cli.local:local", "Run a whole cluster on this machine."),
    "certs": ("wavekv.cli.certs:certs", "Make certificates for members."),
    "get": ("wavekv.cli.data:get", "Print the value of a key."),
    "put": ("wavekv.cli.data:put", "Store a value."),
    "delete": ("wavekv.cli.data:delete", "Delete a key."),
    "list": ("wavekv.cli.data:list_keys", "List keys and values in key order."),
    "watch": ("wavekv.cli.watch:watch", "Follow changes as they happen."),
    "explain": ("wavekv.cli.explain:explain", "Show how a key came to hold what it holds."),
    "status": ("wavekv.cli.status:status", "Show how a member and its peers are."),
    "export": ("wavekv.cli.export:export", "Write all entries as JSON lines."),
    "import": ("wavekv.cli.importing:import_file", "Load a file, quickly and resumably."),
    "compact": ("wavekv.cli.compact:compact", "Fold a stopped member's log into a snapshot."),
    "wal": ("wavekv.cli.wal:wal", "Read log files offline."),
    "snapshot": ("wavekv.cli.snapshot:snapshot", "Read snapshots offline."),
}
"""Command name to `module:attribute` and summary, in the order the help shows."""


_ELSEWHERE: Final = {
    "set": "put",
    "del": "delete",
    "rm": "delete",
    "ls": "list",
    "keys": "list",
    "scan": "list",
    "info": "status",
    "load": "import",
    "restore": "import",
    "dump": "export",
    "backup": "export",
    "start": "serve",
    "run": "serve",
    "subscribe": "watch",
}
"""What other systems call our commands."""


class LazyCommands(click.Group):
    """A group whose commands are imported on first use, and listed without."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None when there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module} holds no command {attribute}"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` name; of a mistyped one, say which may be meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = get_close_matches(name, [*COMMANDS, *_ELSEWHERE], n=1)
            meant = _ELSEWHERE.get(near[0], near[0]) if near else None
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {meant!r}?" if meant else " See wavekv --help."))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wavekv")
def cli() -> None:
    """WaveKV: a durable, replicated key-value engine beside every replica of a service.

    Exit codes: 0 ok, 1 refused or not found, 2 usage, 3 unreachable, 4 corruption, 130 interrupted.
    """
    raise_again()  # the command is imported, and now begins
