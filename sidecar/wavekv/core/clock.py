"""Which timestamp a local write gets (R1): above what the key holds, and above every delete that was forgotten (I6)."""

from wavekv.core.types import I64_MAX, Entry


def write_timestamp(now_ms: int, held: Entry | None, floor: int) -> int:
    """Return the timestamp (ms) of a local write over `held`; `floor` counts where nothing is held."""
    least = floor if held is None else held.timestamp
    return min(max(now_ms, least + 1), I64_MAX)
