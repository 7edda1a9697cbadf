"""Keeps the members of `wavekv local` running, and none of them longer than itself.

- A member that fails before it ever answered is a mistake to be shown: all stop (MemberFailed).
- One that fails later is started again, with a pause that doubles while it keeps failing.
- Stopping asks first (SIGTERM), waits a bounded time, then kills; `tether` covers our own sudden end.

Processes are polled, not awaited: the standard child watchers need threads or a loop of their own.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavekv.cli.client import Client
from wavekv.cli.errors import MemberFailed, MemberUnreachable, RefusedByMember
from wavekv.cli.local_plan import HOST, MemberPlan, clean_environment
from wavekv.cli.target import Target
from wavekv.errors import DirectoryUnusable

POLL_SECONDS = 0.2
ASK_SECONDS = 1.0
STOP_SECONDS = 10.0
PAUSE_SECONDS_FIRST = 0.5
PAUSE_SECONDS_MAX = 10.0
STEADY_SECONDS = 30.0
"""A member that ran this long starts again without the pauses it collected before."""
LOG_LINES_SHOWN = 10
LOG_BYTES_READ = 8192


def tethered(arguments: Sequence[str]) -> list[str]:
    """Return the command of a `wavekv` that ends with this process."""
    return [sys.executable, "-m", "wavekv.cli.tether", str(os.getpid()), *arguments]


@dataclass(slots=True)
class Supervised:
    """A member and its process; `status` is its last answer, None while it does not answer."""

    plan: MemberPlan
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    status: Mapping[str, Any] | None = None
    answered: bool = False
    started_at: float = 0.0
    start_at: float = 0.0
    pause_seconds: float = PAUSE_SECONDS_FIRST
    restarts: int = field(default=0)


class Supervisor:
    """The members of one cluster; `tell` gets what a person should know, a line or more at a time."""

    def __init__(self, members: Sequence[Supervised], tell: Callable[[str], None]) -> None:
        self.members = members
        self._tell = tell

    async def run(self, changed: Callable[[], None]) -> None:
        """Run all members until cancelled; `changed` is called after each look at them.

        Raises:
            MemberFailed: a member cannot start; all are stopped.
            DirectoryUnusable: a log file cannot be written.
        """
        try:
            for member in self.members:
                _start(member)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._ask_all(changed))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        finally:
            self._stop()

    async def _watch(self) -> None:
        while True:
            for member in self.members:
                self._check(member, time.monotonic())
            await asyncio.sleep(POLL_SECONDS)

    def _check(self, member: Supervised, now: float) -> None:
        if member.process is None:
            if now >= member.start_at:
                member.restarts += 1
                _start(member)
            return
        code = member.process.poll()
        if code is None:
            return
        ending = f"signal {-code}" if code < 0 else f"exit code {code}"
        report = (
            f"member {member.plan.name} ended ({ending}); the end of {member.plan.log}:\n{last_lines(member.plan.log)}"
        )
        if not member.answered and code > 0:
            raise MemberFailed(report)
        if now - member.started_at >= STEADY_SECONDS:
            member.pause_seconds = PAUSE_SECONDS_FIRST
        member.process, member.status, member.start_at = None, None, now + member.pause_seconds
        self._tell(f"{report}\nmember {member.plan.name} starts again in {member.pause_seconds:.1f} s")
        member.pause_seconds = min(member.pause_seconds * 2, PAUSE_SECONDS_MAX)

    async def _ask_all(self, changed: Callable[[], None]) -> None:
        while True:
            await asyncio.gather(*(_ask(member) for member in self.members))
            changed()
            await asyncio.sleep(ASK_SECONDS)

    def _stop(self) -> None:
        running = [member.process for member in self.members if member.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(member: Supervised) -> None:
    try:
        with member.plan.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the supervisor alone, which stops members in order.
            member.process = subprocess.Popen(  # noqa: S603 - our own interpreter and flags
                member.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                start_new_session=True,
            )
    except OSError as error:
        raise DirectoryUnusable(f"member {member.plan.name} cannot be started: {error}") from error
    member.started_at = time.monotonic()


async def _ask(member: Supervised) -> None:
    if member.process is None:
        return
    try:
        async with Client(Target(HOST, member.plan.port), answer_seconds_max=ASK_SECONDS) as client:
            status = await client.status()
    except (MemberUnreachable, RefusedByMember):
        member.status = None
    else:
        member.status, member.answered = status, True


def last_lines(path: Path) -> str:
    """Return the last lines of a log, indented."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - LOG_BYTES_READ))
            lines = log.read().decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    except OSError as error:
        return f"  ({error.strerror})"
    return "\n".join(f"  {line}" for line in lines) or "  (empty)"
