# SPDX-License-Identifier: Apache-2.0
"""How fast this GPU copies, reads rows from the L1 cache and adds to memory, measured by kernels that do nothing else.

See rates.cu. On the CPU the same source runs in the emulator's stand-ins for CUDA, slowly: only its sums mean anything.
"""

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from gpu_report.measure import HEAD_START, milliseconds
from gpu_report.rows import Row

from unisegment.ops.kernel_backend import kernel_folder
from unisegment.ops.kernel_build import _find_compiler, _find_nvcc

THREADS, ROW_BYTES, GRADIENT_BYTES = 256, 512, 128
WINDOW = 128
"""Pixels among which a block finds its own: 64 KiB, less than any L1 cache since Volta."""
ENCODER_PIXELS = 8 * (32 * 32 + 64 * 64 + 128 * 128)
"""Pixels of all heads of an encoder on an image of 1024x1024."""


@dataclass(frozen=True)
class Rate:
    """What is measured.

    Args:
        what: In words.
        lanes: That share a row.
        option: Heads between which groups alternate, or bytes between the vectors of a lane.
    """

    what: str
    lanes: int
    option: int


GATHERS = (
    Rate("L1 gather, rows of 128 bytes", 8, 1),
    Rate("L1 gather, rows of 64 bytes in the same half of their lines", 4, 1),
    Rate("L1 gather, rows of 64 bytes, halves alternating", 4, 2),
)
REDUCTIONS = (
    Rate("L2 reductions, 8 lanes a row", 8, 16),
    Rate("L2 reductions, 4 lanes a row, half sectors", 4, 16),
    Rate("L2 reductions, 4 lanes a row, whole sectors", 4, 64),
)


@functools.cache
def library(device: str) -> ctypes.CDLL:
    """Return the compiled rates.cu, which the first process of a report makes.

    Raises:
        KernelUnavailableError: Where there is no compiler.
        RuntimeError: When it fails.
    """
    source, path = Path(__file__).with_name("rates.cu"), Path(tempfile.gettempdir()) / f"rates_{device}.so"
    if not path.exists():
        if device == "cuda":
            major, minor = torch.cuda.get_device_capability()
            command = [*_find_nvcc(), f"-arch=sm_{major}{minor}", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden"]
        else:
            stand_ins = kernel_folder() / "emulator" / "cuda_on_cpu.h"
            command = [
                *_find_compiler(),
                "-O1",
                "-fPIC",
                "-Wno-unknown-pragmas",
                "-include",
                str(stand_ins),
                "-x",
                "c++",
            ]
        command += ["-std=c++17", "-shared", str(source), "-o", f"{path}.partial"]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise RuntimeError(f"{command[0]} failed: {made.stderr.strip()[-300:]}")
        Path(f"{path}.partial").replace(path)
    loaded = ctypes.CDLL(str(path))
    integer, pointer = ctypes.c_int, ctypes.c_void_p
    loaded.gather_rows.argtypes = [integer, integer, pointer, pointer, integer, integer, integer, integer, pointer]
    loaded.reduce_rows.argtypes = [integer, integer, pointer, integer, integer, integer, pointer]
    names = ["gather_rows", "reduce_rows"]
    if device == "cuda":
        loaded.plant_out_of_bounds.argtypes = [pointer, integer, pointer]
        loaded.plant_race.argtypes = [pointer, pointer]
        names += ["plant_out_of_bounds", "plant_race"]
    for name in names:
        getattr(loaded, name).restype = ctypes.c_char_p
    return loaded


def checked(failure: bytes | None) -> None:
    """Raise a RuntimeError for what a function of the library returned."""
    if failure is not None:
        raise RuntimeError(failure.decode())


def stream(device: str) -> int | None:
    """Return torch's current stream, as the library takes it."""
    return torch.cuda.current_stream().cuda_stream if device == "cuda" else None


def gather(rate: Rate, device: str, values: torch.Tensor, turns: int, blocks: int) -> torch.Tensor:
    """Read rows in so many turns of every group of lanes; return a sum for each thread, (blocks * THREADS), int32."""
    sums = torch.empty(blocks * THREADS, dtype=torch.int32, device=device)
    pixels = values.nbytes // ROW_BYTES
    checked(
        library(device).gather_rows(
            *(rate.lanes, rate.option, values.data_ptr(), sums.data_ptr(), pixels, min(WINDOW, pixels)),
            *(turns, blocks, stream(device)),
        )
    )
    return sums


def reduce(rate: Rate, device: str, gradients: torch.Tensor, turns: int, blocks: int) -> None:
    """Add ones to 32 numbers of a random pixel in so many turns of every group of lanes.

    Args:
        rate: Of REDUCTIONS.
        device: "cuda" or "cpu".
        gradients: What is added to, (pixels, 32), float32.
        turns: How often.
        blocks: Of THREADS.
    """
    pixels = gradients.nbytes // GRADIENT_BYTES
    arguments = (rate.lanes, rate.option, gradients.data_ptr(), pixels, turns, blocks)
    checked(library(device).reduce_rows(*arguments, stream(device)))


def questions(found: dict[str, float]) -> Iterator[Row]:
    """Yield what a pattern of 16-bit tensors costs, beside one that uses the same hardware well."""
    for kind, (_, bad, good) in (("gather, same half", GATHERS), ("reductions, half sectors", REDUCTIONS)):
        yield {"what": f"{kind}: rate beside the other pattern", "share": found[bad.what] / found[good.what]}


def measured(device: str, small: bool) -> dict[str, float]:
    """Return bytes per second of all rates; of copies those that are read and written."""
    turns, blocks, repeats = (8, 2, 1) if small else (512, 16 * multiprocessors(device), 10)
    pixels = 256 if small else ENCODER_PIXELS
    values = torch.zeros(pixels * ROW_BYTES // 4 // 8, dtype=torch.int32, device=device)
    gradients = torch.zeros(pixels, GRADIENT_BYTES // 4, device=device)
    found = {"DRAM, copies": copied_per_second(device, 2**20 if small else 16 * l2_bytes(device), repeats)}
    for rate in GATHERS:
        size = blocks * THREADS * 16 * turns
        found[rate.what] = _per_second(
            device, size, functools.partial(gather, rate, device, values), turns, blocks, repeats
        )
    for rate in REDUCTIONS:
        size = blocks * THREADS * turns * GRADIENT_BYTES // rate.lanes
        run = functools.partial(reduce, rate, device, gradients)
        found[rate.what] = _per_second(device, size, run, turns, blocks, repeats)
    return found


def _per_second(device: str, size: int, run: Callable, turns: int, blocks: int, repeats: int) -> float:
    return size / milliseconds(device, lambda _: run(turns, blocks), repeats, 1, head_start=HEAD_START) * 1000


def copied_per_second(device: str, size: int, repeats: int) -> float:
    """Return the bytes that are read and written in a second when a tensor of so many bytes is copied."""
    source, target = torch.ones(2, size // 4, device=device)
    took = milliseconds(device, lambda _: target.copy_(source), repeats, head_start=HEAD_START)
    return 2 * source.nbytes / took * 1000


def multiprocessors(device: str) -> int:
    """Return how many a GPU has."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def l2_bytes(device: str) -> int:
    """Return the size of a GPU's L2 cache; on the CPU a size that keeps everything small."""
    return torch.cuda.get_device_properties(device).L2_cache_size if device == "cuda" else 2**20
