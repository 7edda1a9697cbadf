"""Whether this member's clock can be trusted, judged by what its peers' clocks say; and how far each is off."""

from collections.abc import Iterable
from statistics import median_high

from wavekv.core.reports import Report


def skew_ms(report: Report) -> int | None:
    """Return how far the sender's clock was ahead of ours when it reported, ms; None where it did not say.

    The report's way here is in it, so a peer looks that much further behind.
    """
    return None if report.clock_ms is None else report.clock_ms - report.heard_ms


def ahead_ms(reports: Iterable[Report | None]) -> int | None:
    """Return how far our clock is ahead of the median of those in `reports`, ms; None where there is none.

    Of an even number the nearer of the two in the middle counts, not their mean, which one peer alone could move as far
    as it likes: more than half of the peers have to say that we are ahead (G11).
    """
    skews = [skew for report in reports if report is not None and (skew := skew_ms(report)) is not None]
    return -median_high(skews) if skews else None
