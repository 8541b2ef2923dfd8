"""Which printed numbers can be right together: every row of every source, tested by arithmetic alone.

A verdict is of numbers as they stand, under a reading that it names; it says nothing of whoever printed them. "impossible" means
that no data whatever give these numbers under that reading; "consistent" that some data could; "undecided" that nothing is
printed to hold them against, or that what decides is not told (as where two places of a source contradict each other).
"""

from spider_utils.evaluation.audit.findings import CONSISTENT, IMPOSSIBLE, MEANS, POOLED, UNDECIDED, VERDICTS, Finding
from spider_utils.evaluation.audit.verdicts import audit, by_row, verdict_counts

__all__ = [
    "CONSISTENT",
    "IMPOSSIBLE",
    "MEANS",
    "POOLED",
    "UNDECIDED",
    "VERDICTS",
    "Finding",
    "audit",
    "by_row",
    "verdict_counts",
]
