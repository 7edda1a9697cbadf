"""Ctrl-C at any moment of a command ends it, quietly and with 130."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("interrupts")

SLOW_IMPORT = """
import sys, time
sys.stdout.write("up\\n")
sys.stdout.flush()
try:
    time.sleep(20)
except KeyboardInterrupt:
    raise TypeError("as an extension module may make of it") from None
"""
WAITING = """
import asyncio, signal, sys, threading
from wavekv.cli.interruptible import run_until_interrupted

async def wait():
    print("up", flush=True)
    try:
        await asyncio.sleep(20)
    finally:
        print("cleaned up", flush=True)

# The kernel hands the signal to the other thread, so no system call of the loop's ends early.
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
try:
    run_until_interrupted(wait())
except KeyboardInterrupt:
    sys.exit(0 if signal.getsignal(signal.SIGINT) is signal.default_int_handler else 1)
sys.exit(2)
"""


@contextmanager
def started(arguments: list[str], *first_on_path: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python with `arguments`; give the process once it has printed that it is up."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*first_on_path, *sys.path])}
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        try:
            yield child
        finally:
            child.kill()


def test_an_interrupt_is_noticed_while_nothing_else_happens() -> None:
    with started(["-c", WAITING]) as child:
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=10) == (b"cleaned up\n", b"")
        assert child.returncode == 0


@pytest.mark.parametrize("module", ["click", "aiohttp"])
def test_an_interrupt_while_modules_are_imported_is_quiet_too(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(SLOW_IMPORT)
    with started(["-m", "wavekv", "get", "k"], str(tmp_path)) as child:
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=10)[1].strip() == b""
        assert child.returncode == 130
