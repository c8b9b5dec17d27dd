# SPDX-License-Identifier: Apache-2.0
"""Time and memory of calls: between CUDA events on a GPU, by the clock on the CPU."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

HEAD_START = 5_000_000
"""Cycles, some 3 ms, in which a GPU waits while the CPU prepares a call, so that launches are not measured."""


def milliseconds(
    device: str,
    run: Callable[[Any], object],
    repeats: int,
    warm_ups: int = 3,
    prepare: Callable[[int], Any] = lambda number: number,
    head_start: int = 0,
) -> float:
    """Return the median time of a call.

    Args:
        device: "cuda" or "cpu".
        run: Is timed; gets what `prepare` returns.
        repeats: How often.
        warm_ups: How often before that.
        prepare: Is not timed; gets the number of the call.
        head_start: See HEAD_START; 0 where the launches belong to what is measured.
    """
    if device == "cpu":
        return statistics.median([_by_clock(run, prepare(number)) for number in range(warm_ups + repeats)][warm_ups:])
    events = []
    for number in range(warm_ups + repeats):
        prepared = prepare(number)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if head_start:
            torch.cuda._sleep(head_start)
        start.record()
        run(prepared)
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events[warm_ups:])


def _by_clock(run: Callable[[Any], object], prepared: Any) -> float:
    start = time.perf_counter()
    run(prepared)
    return 1000 * (time.perf_counter() - start)


def peak_mib(device: str, call: Callable[[], object]) -> float | None:
    """Return how much of a GPU's memory a call needs at most, above what there is before; None on the CPU."""
    if device == "cpu":
        call()
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
