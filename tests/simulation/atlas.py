"""The fault atlas: what each fault may cost, by guarantee. What is not in here may cost nothing.

`loses`: writes that no volume of a member covers afterwards may be gone (U3, U4), and may also come back with a late
message or a volume that is admitted again (U1). `allows` names the non-guarantees of docs/replication.md it stands for.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One kind of fault."""

    what: str
    loses: bool = False
    allows: tuple[str, ...] = ()


FAULTS: dict[str, Fault] = {
    "crash": Fault("the process is gone between two steps; an unsynced group survives in part"),
    "stop": Fault("the process ends and its volume stays down for a while"),
    "failed": Fault("a sync fails: the process ends, the group may be there or not"),
    "full": Fault("values are refused until there is room, deletes are not"),
    "stall": Fault("syncs take long"),
    "partition": Fault("nothing gets from some members to others, one way or both"),
    "slow": Fault("messages of one member take long"),
    "rollback": Fault("a volume is as it was earlier", loses=True, allows=("U2", "U3", "U4", "U5", "U7")),
    "corrupt": Fault("the log is damaged in the middle, and recovery finds it", loses=True, allows=("U3", "U4", "U7")),
    "wipe": Fault("a volume comes back empty under the same name", loses=True, allows=("U3", "U4", "U7")),
    "destroy": Fault("a volume is gone for good, and its member with it", loses=True, allows=("U3", "U4", "U7")),
    "clone": Fault("a second process runs on a copy under the same name", loses=True, allows=("U1",)),
    "swap": Fault("two members come back on each other's volumes", loses=True, allows=("U2", "U5")),
    "remove": Fault("a member is removed by force", loses=True, allows=("U1", "U4", "U7")),
    "admit": Fault("a removed member is admitted again, with its old volume", loses=True, allows=("U1", "U2")),
    "drain": Fault("a member leaves when the others cover all it holds"),
    "jump": Fault("a clock jumps", allows=("U5", "U6")),
    "drift": Fault("a clock runs fast or slow", allows=("U6",)),
    "freeze": Fault("a clock stands still", allows=("U6",)),
}

TOLERATED: dict[str, str] = {}
"""What is known not to hold, and why; counted instead of raised. It may only shrink."""
