"""A member process that must not outlive the supervisor which started it.

Run as `python -m wavekv.cli.tether SUPERVISOR_PID ARGUMENT…`: asks the kernel to kill this process when its parent
ends, however it ends, then runs the command line. SIGKILL is safe for a member (G1) and cannot be missed. A hook
between fork and exec was turned down (unsafe beside threads), and so was a pipe the member watches (a hung member
would not).
"""

import ctypes
import os
import signal
import sys

from wavekv.__main__ import run

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then run the rest of the arguments as `wavekv` would."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have ended before the kernel was asked.
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
    sys.exit(run(sys.argv[2:]))


if __name__ == "__main__":
    main()
