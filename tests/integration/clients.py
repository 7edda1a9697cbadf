"""Programs of others that tests run unmodified: where they are, and what happens where they are not."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def needed(program: str, variable: str | None = None) -> str:
    """Return the path of a program, or of what an environment variable names; else skip, or fail as `missing` says."""
    found = (os.environ.get(variable) if variable else None) or shutil.which(program)
    if found is None:
        missing(program, "is not on this machine" + (f"; {variable} may name one" if variable else ""))
    return str(found)


def missing(program: str, why: str) -> None:
    """Skip what `program` is needed for, or fail where it is required.

    WAVEKV_CLIENTS_REQUIRED names what is, with commas in between: continuous integration must not pass by skipping.
    """
    if program in os.environ.get("WAVEKV_CLIENTS_REQUIRED", "").split(","):
        pytest.fail(f"{program} {why}")
    pytest.skip(f"{program} {why}")


def run(arguments: list[str], folder: Path, *, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)


def install(arguments: list[str], folder: Path) -> None:
    """Install what a client needs from its registry; without one that counts as `missing`."""
    ended = run(arguments, folder, seconds=300)
    if ended.returncode:
        missing(Path(arguments[0]).name, f"could not install: {' '.join(arguments)}: {ended.stderr[-500:]}")
