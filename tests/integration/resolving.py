"""`wavekv` with a resolver of the test's: every name resolves to the lines of a file, a missing file to nothing."""

import os
from functools import partial
from pathlib import Path

from wavekv.__main__ import main
from wavekv.cli import process
from wavekv.config import Address
from wavekv.runtime.discovery import Discovery

RECORDS = "RESOLVING_RECORDS"
"""Environment variable that names the file."""


async def resolve(name: Address) -> list[str]:
    """Return the lines of the file."""
    try:
        return Path(os.environ[RECORDS]).read_text().split()
    except FileNotFoundError:
        raise OSError(-2, f"{name.host}: Name or service not known") from None


if __name__ == "__main__":
    setattr(process, "Discovery", partial(Discovery, resolver=resolve))  # noqa: B010 - a class for mypy
    main()
