# SPDX-License-Identifier: Apache-2.0
"""Rows of post-processing: results compared, then times in turns and memory."""

from gpu_report.rows import Row
from inference_rows.memory import memory_row, peak_of_result
from inference_rows.turns import OURS, THEIRS, share, take_turns
from peers.post_processing import compare, make_calls, make_outputs

LARGE = (4096, 8192)


def row_of(task: str, size: tuple[int, int], num_queries: int, rounds: int, with_memory: bool, with_large: bool) -> Row:
    """Return the times and memory of post-processing equal logits to results of a task, and how far these agree."""
    calls = make_calls(make_outputs(size, num_queries), size)[task]
    row = compare(task, *(calls[who]() for who in (OURS, THEIRS)))
    if "error" in row:
        return row
    seconds = take_turns(calls, rounds)
    row |= {"seconds": seconds, "ratio": share(seconds[OURS], seconds[THEIRS])}
    if with_memory:
        row |= memory_row(peak_of_result(calls[THEIRS]), peak_of_result(calls[OURS]))
    if with_memory and with_large:
        large = make_calls(make_outputs(LARGE, num_queries), LARGE)[task]
        row[f"peak MiB at {LARGE[0]}x{LARGE[1]}"] = {OURS: peak_of_result(large[OURS])}
    return row
