# SPDX-License-Identifier: Apache-2.0
"""Time and memory of calls: between CUDA events on a GPU, by the clock on the CPU."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from process_memory import peak_mebibytes

HEAD_START = 5_000_000
"""Cycles, some 3 ms, in which a GPU waits while the CPU prepares a call, so that launches are not measured."""
_FEWEST = 3


def milliseconds(
    device: str,
    run: Callable[[Any], object],
    repeats: int,
    warm_ups: int = 3,
    prepare: Callable[[int], Any] = lambda number: number,
    head_start: int = 0,
    seconds: float = math.inf,
) -> float:
    """Return the median time of a call.

    Args:
        device: "cuda" or "cpu".
        run: Is timed; gets what `prepare` returns.
        repeats: How often.
        warm_ups: How often before that.
        prepare: Is not timed; gets the number of the call.
        head_start: See HEAD_START; 0 where the launches belong to what is measured.
        seconds: After which no further call is begun, if there have been three.
    """
    for number in range(warm_ups):
        run(prepare(number))
    timed, began = [], time.monotonic()
    for number in range(warm_ups, warm_ups + repeats):
        prepared = prepare(number)
        timed.append(_by_clock(run, prepared) if device == "cpu" else _by_events(run, prepared, head_start))
        if len(timed) >= min(_FEWEST, repeats) and time.monotonic() - began > seconds:
            break
    return statistics.median(timed)


def _by_clock(run: Callable[[Any], object], prepared: Any) -> float:
    start = time.perf_counter()
    run(prepared)
    return 1000 * (time.perf_counter() - start)


def _by_events(run: Callable[[Any], object], prepared: Any, head_start: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    if head_start:
        torch.cuda._sleep(head_start)
    start.record()
    run(prepared)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def peak_mib(device: str, call: Callable[[], object]) -> float | None:
    """Return how much memory a call needs at most, above what there is before; None where that cannot be known."""
    if device == "cpu":
        try:
            return peak_mebibytes(call)
        except OSError:  # only Linux counts it
            return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
