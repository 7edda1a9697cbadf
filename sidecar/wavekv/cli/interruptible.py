"""Ctrl-C while a command waits: it is noticed at once, and the command's work is cancelled.

asyncio runs its handler when the interpreter next looks for signals. A signal that arrives between that look and the
loop's system call, or that the kernel hands to another thread, is noticed only when something else happens: in a watch
of a quiet store not before the next heartbeat. A loop that has a handler of its own is woken by every signal.

uvloop's loops always are. A SIGINT that is ignored, as shells arrange for what they start in the background, stays so.
"""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def run_until_interrupted(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` on a loop of its own and return what it returns.

    Raises:
        KeyboardInterrupt: SIGINT came, and `work` was cancelled; at a second SIGINT it is not waited for.
    """
    return asyncio.run(_woken_by_interrupts(work))


async def _woken_by_interrupts(work: Coroutine[Any, Any, _T]) -> _T:
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        return await work
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    signal.signal(signal.SIGINT, handler)  # asyncio's again, which cancels; that the loop is woken stays
    try:
        return await work
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, handler)
