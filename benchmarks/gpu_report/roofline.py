# SPDX-License-Identifier: Apache-2.0
"""The least time that deformable attention can take: the bytes that have to move, over how fast they can.

DRAM: every tensor is read or written once; the gradient of the values is filled with zeros in float32, added to, and
for 16-bit values cast. L1 gather: the four corners of every sample, all channels, from the L1 caches. L2 reductions:
the additions to these corners in float32, which the L2 cache makes. rates.py measures how fast each of them can be.
"""

from contenders import HEAD_DIM, NUM_HEADS, NUM_POINTS, SIZES
from gpu_report.rates import GATHERS, REDUCTIONS

_CORNERS, _FLOAT = 4, 4


def traffic(size: str, question: str, element_bytes: int, batch_size: int, backward: bool) -> dict[str, int]:
    """Return the bytes that one call has to move, by where.

    Args:
        size: Of `contenders.SIZES`.
        question: "points" (whose locations are float32) or "offsets" (with reference points in float32).
        element_bytes: Of an element of every other tensor.
        batch_size: Images.
        backward: Or else forward.
    """
    shapes, num_queries = SIZES[size]
    value_elements = batch_size * sum(height * width for height, width in shapes) * NUM_HEADS * HEAD_DIM
    output = batch_size * num_queries * NUM_HEADS * HEAD_DIM * element_bytes
    samples = batch_size * num_queries * NUM_HEADS * len(shapes) * NUM_POINTS
    value, weights = value_elements * element_bytes, samples * element_bytes
    points = 2 * samples * (_FLOAT if question == "points" else element_bytes)
    reference = 2 * batch_size * num_queries * len(shapes) * _FLOAT if question == "offsets" else 0
    gathered = samples * _CORNERS * HEAD_DIM * element_bytes
    if not backward:
        return {"DRAM": value + output + weights + points + reference, "L1 gather": gathered}
    sums = value_elements * _FLOAT
    cast = 0 if element_bytes == _FLOAT else sums + value
    return {
        "DRAM": value + output + 2 * (weights + points) + reference + 2 * sums + cast,
        "L1 gather": gathered,
        "L2 reductions": samples * _CORNERS * HEAD_DIM * _FLOAT,
    }


def floor(moved: dict[str, int], rates: dict[str, float]) -> tuple[str, float]:
    """Return what bounds a call, and the milliseconds that it needs at least.

    Args:
        moved: Of `traffic`.
        rates: Of `rates.measured`; of several ways to do the same the fastest counts.
    """
    fastest = {
        "DRAM": rates["DRAM, copies"],
        "L1 gather": max(rates[rate.what] for rate in GATHERS),
        "L2 reductions": max(rates[rate.what] for rate in REDUCTIONS),
    }
    return max(((name, 1000 * size / fastest[name]) for name, size in moved.items()), key=lambda pair: pair[1])
