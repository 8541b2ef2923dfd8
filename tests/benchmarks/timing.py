"""Timing of two ways of doing the same thing, in turn, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table: median seconds of ours and of a peer, divided by ``items``."""

    name: str
    ours_s: float
    peer_s: float
    peer: str

    @property
    def ratio(self) -> float:
        """How many times as long the peer takes."""
        return self.peer_s / self.ours_s

    def __str__(self) -> str:
        def shown(seconds: float) -> str:
            return f"{seconds * 1e3:9.4f} ms" if seconds < 1 else f"{seconds:9.3f} s "

        ratio = f"{self.ratio:9.1f}x" if self.ratio > 2 else f"{self.ratio:9.2f}x"
        return f"{self.name:44s} {shown(self.ours_s):>12s} {shown(self.peer_s):>12s} {ratio}  {self.peer}"


def compare(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    peer_name: str,
    items: int = 1,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Run both in turn ``rounds`` times after one warm-up and take medians, so that a drifting machine hits both alike.

    Args:
        name, peer_name: for the table.
        ours, peer: the two ways.
        items: what one run does so many of.
        rounds: how often both are run.
        clock: seconds of what: ``time.process_time`` counts all threads, and not what other programs do meanwhile.
    """
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for number in range(rounds + 1):
        for key, action in (("ours", ours), ("peer", peer)):
            start = clock()
            action()
            if number:
                times[key].append((clock() - start) / items)
    return Row(name, statistics.median(times["ours"]), statistics.median(times["peer"]), peer_name)
