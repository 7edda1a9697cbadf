"""Programs of others that tests run unmodified: where they are, and what happens where they are not."""

import os
import shutil

import pytest


def needed(program: str, variable: str | None = None) -> str:
    """Return the path of a program, or of what an environment variable names; else skip, or fail where all is required.

    WAVEKV_CLIENTS_REQUIRED=1 requires all: continuous integration must not pass by skipping.
    """
    found = (os.environ.get(variable) if variable else None) or shutil.which(program)
    if found is None:
        missing(f"{program} is not on this machine" + (f"; {variable} may name one" if variable else ""))
    return str(found)


def missing(why: str) -> None:
    """Skip for `why`, or fail where all is required."""
    if os.environ.get("WAVEKV_CLIENTS_REQUIRED") == "1":
        pytest.fail(why)
    pytest.skip(why)
