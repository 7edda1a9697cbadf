"""WAIT: how many other members have what this connection wrote (R12).

Redis counts replicas that received the writes; here a member counts once it reported them durable.
"""

import asyncio

from wavekv.errors import DurabilityImpossible, DurabilityTimeout
from wavekv.ports import Spread
from wavekv.resp import replies
from wavekv.resp.refusals import Refused
from wavekv.resp.session import Reply, Session, whole


def wait(session: Session, words: list[bytes]) -> Reply:
    """WAIT members milliseconds; 0 milliseconds, and more than the bound, are the bound."""
    count, asked_ms = whole(words[1]), whole(words[2])
    if asked_ms < 0:
        raise Refused("ERR timeout is negative")
    most_ms = session.limits.wait_ms_max
    try:
        spread = session.store.spread(max(count, 0) + 1)
    except DurabilityImpossible:  # Redis answers how many there are, and so do all
        spread = session.store.spread(None)
    return _wait(session, spread, min(asked_ms or most_ms, most_ms) / 1000)


async def _wait(session: Session, spread: Spread, seconds: float) -> bytes:
    dots = list(session.written.values())
    with spread:
        waiting = asyncio.ensure_future(spread.reached(dots, 0 if session.hurries else seconds))
        session.waiting = waiting
        try:
            held = await waiting
        except DurabilityTimeout as error:
            held = error.durable_on
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            held = spread.holders(dots)
        finally:
            session.waiting = None
    return replies.integer(max(len(held) - 1, 0))
