"""Programs of others that tests run unmodified: where they are, and what happens where they are not."""

import os
import shutil

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
