# SPDX-License-Identifier: Apache-2.0
"""Calls take turns, so that whatever else the machine does meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping

THEIRS, OURS, FLOOR = "transformers", "unisegment", "products alone"
SECONDS, FEWEST = 40.0, 3
"""After which time no further round is begun, if there have been so many."""


def take_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Return how many seconds each call takes: median, fastest, slowest, and of how many rounds.

    Args:
        calls: By name; the order turns around in each round. Each has run before: the first call of all takes longer.
        rounds: How often each is called; fewer times if it takes long.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    began = time.monotonic()
    for turn in range(rounds):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            calls[name]()
            taken[name].append(time.perf_counter() - start)
        if turn + 1 >= FEWEST and time.monotonic() - began > SECONDS:
            break
    return {name: spread(values) for name, values in taken.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Return the median of some times and how far they are apart, with four digits."""
    found = {"median": statistics.median(values), "fastest": min(values), "slowest": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()} | {"rounds": len(values)}


def share(one: dict[str, float], other: dict[str, float]) -> float:
    """Return what one takes of the other's time, by their medians."""
    return round(one["median"] / other["median"], 3)
