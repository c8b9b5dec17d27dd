# SPDX-License-Identifier: Apache-2.0
"""The least time that deformable attention can take on a GPU: the bytes that have to move, over how fast they can.

DRAM: every tensor is read or written once; the gradient of the values is filled with zeros in float32, added to, and
for 16-bit values cast. L1 gather: the four corners of every sample, all channels, from the L1 caches. L2 reductions:
the additions to these corners in float32, which the L2 cache makes.
"""

import subprocess

import torch
from contenders import HEAD_DIM, NUM_HEADS, NUM_POINTS, SIZES

L1_BYTES_PER_CLOCK = 128  # of each multiprocessor, by NVIDIA's data sheets since Volta
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


def floors(moved: dict[str, int], rates: dict[str, float]) -> dict[str, float]:
    """Return the seconds that each of these needs; the largest bounds the whole."""
    return {name: size / rates[name] for name, size in moved.items()}


def rates_of(device: str) -> dict[str, float]:
    """Return this GPU's bytes per second: of DRAM and L2 as measured by copies, of L1 as its data sheet counts."""
    properties = torch.cuda.get_device_properties(device)
    clock = 1e6 * max(float(line) for line in _ask("clocks.max.sm").split())
    return {
        "DRAM": copied_per_second(device, 16 * properties.L2_cache_size),
        "L1 gather": L1_BYTES_PER_CLOCK * properties.multi_processor_count * clock,
        "L2 reductions": copied_per_second(device, properties.L2_cache_size // 8),
    }


def copied_per_second(device: str, size: int, repeats: int = 50) -> float:
    """Return the bytes that are read and written in a second when a tensor of so many bytes is copied."""
    source, target = torch.ones(2, size // _FLOAT, device=device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    target.copy_(source)
    torch.cuda._sleep(10_000_000)  # so that the copies follow each other without a gap
    start.record()
    for _ in range(repeats):
        target.copy_(source)
    end.record()
    torch.cuda.synchronize()
    return repeats * 2 * source.nbytes / (start.elapsed_time(end) / 1000)


def _ask(what: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
