#!/usr/bin/env python3
"""Look up every locked package in the data base of known vulnerabilities (OSV); one line where none can be reached.

    python .ci/audit.py

Runs pip-audit over the locks, without installing anything. Not to reach a data base is no finding: it says so and ends
with 0. A vulnerable package ends it with 1.
"""

import subprocess
import sys
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LOCKS: Final = ("requirements-member.lock", "requirements-operator.lock", "requirements.lock")
DATA_BASE: Final = "https://api.osv.dev/v1/vulns/OSV-2020-111"
REACH_SECONDS: Final = 5.0


def unreachable() -> str | None:
    """Return why the data base cannot be asked, None if it can."""
    try:
        with urllib.request.urlopen(DATA_BASE, timeout=REACH_SECONDS) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        return None if error.code == 404 else f"it answers {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return None


def main() -> int:
    """Audit; return the exit code."""
    why = unreachable()
    if why is not None:
        print(f"make audit: no data base of vulnerabilities is reachable ({why}); nothing was audited")
        return 0
    if find_spec("pip_audit") is None:
        print("make audit needs pip-audit: .venv/bin/python -m pip install pip-audit", file=sys.stderr)
        return 1
    failed = 0
    for lock in LOCKS:
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "-s", "osv", "-r", lock]
        print(f"{lock}:", flush=True)
        failed |= subprocess.run(command, cwd=ROOT, check=False).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
