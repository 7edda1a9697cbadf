"""Dead origins in messages (R15): promises, the horizon behind which all that is not covered is dead, what is told.

An origin is dead once its process has ended and nothing that it wrote is held any more; its place in every context is
then all that is left of it. `origin_expiry` decides when all members drop it. From then on no context tells a late copy
of what it wrote from news; stamps do. Every member *promises* that what it will write from now on is stamped above some
time; the *horizon* is a time that all had promised when each covered all that every other one covered. So what is not
covered, and not stamped above the horizon, is dead: a late message, or a volume older than that.

What is dead by stamp is refused, never passed over: refusing loses nothing if the sender is in the right after all.
It is refused from who has not promised as far as the horizon, from who heals, and from who knows an older epoch; all
others sent the message after they had forgotten it themselves. Only a healing member drops it, when it compares lists
(R6). Nodes of the original system promise nothing, and are believed (R14).
"""

from wavekv.core.messages import Envelope, Ranges
from wavekv.core.ops import DropOrigins
from wavekv.core.packed import dot_of, unpack_facts
from wavekv.core.replica import Replica
from wavekv.core.types import I64_MIN


def greeting(replica: Replica) -> dict[str, int]:
    """Return the fields that every message carries once there are promises, as durable as the context it tells."""
    standing = replica.store.standing
    if standing.promised == I64_MIN:
        return {}
    fields = {"promised": standing.promised}
    if standing.horizon != I64_MIN:
        fields["horizon"] = standing.horizon
    return fields


def told(replica: Replica) -> tuple[dict[int, int], dict[int, Ranges]]:
    """Return acks and dots as they are told: without the origins that this member has agreed to drop."""
    context = replica.store.context
    acks, dots = dict(context.acks), context.dots()
    for origin in replica.reports.agreed:
        acks.pop(origin, None)
        dots.pop(origin, None)
    return acks, dots


def dead_upto(replica: Replica, message: Envelope) -> int:
    """Return the stamp (ms) up to which what is not covered here is refused from `message`; I64_MIN: nothing is.

    It is the horizon, where the message may be of who had not forgotten yet what lies behind it.
    """
    horizon = replica.store.standing.horizon
    if horizon == I64_MIN or message.name is None:
        return I64_MIN
    epoch = replica.membership.epoch
    older = epoch is not None and (message.epoch or 0) < epoch.number
    late = older or message.healing or message.promised is None or message.promised < horizon
    return horizon if late else I64_MIN


def sane_horizon(replica: Replica, message: Envelope, now_ms: int) -> bool:
    """Tell whether this member may adopt the sender's horizon, if it heals: it is not of the last half grace.

    Such a one would refuse honest news. No honest member has it, unless clocks differ by half a grace.
    """
    if not replica.healing or (message.horizon or I64_MIN) <= now_ms - replica.limits.origin_grace_ms // 2:
        return True
    replica.refused["future_horizon"] += 1
    return False


def adopt_horizon(replica: Replica, message: Envelope) -> None:
    """Stage the horizon of whose context this member has adopted, but for what an origin's owner told to be less.

    That was written after its owner heard this process, so above what it had promised, and above any horizon.
    Only who heals adopts it: all others had a part in every agreement, and so have a horizon of their own. A member
    that tells a false one then harms those alone that heal with it, and not for longer than half a grace.
    """
    if message.horizon is not None and message.horizon > replica.store.standing.horizon:
        replica.heed(DropOrigins(message.horizon))


def dead_by(horizon: int | None, replica: Replica, packed: bytes) -> bool:
    """Tell whether a held entry that its peer neither holds nor covers is dead by the peer's horizon (R6).

    Only a healing member may hold such. What this process wrote itself is news, whatever its clock says.
    """
    if horizon is None or not replica.healing:
        return False
    timestamp: int = unpack_facts(packed)[0]
    return timestamp <= horizon and dot_of(packed)[0] != replica.origin
