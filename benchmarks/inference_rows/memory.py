# SPDX-License-Identifier: Apache-2.0
"""How much memory one network needs for a prediction, in a process of its own that has seen no other.

    python memory.py FOLDER TINY BATCH_SIZE SIDE THREADS

prints the MiB above the loaded checkpoint of FOLDER and its images. That of TINY has the same code and is called first,
on 64x64 pixels: code that is read into memory for the first time belongs to neither.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "kernels"))  # where process_memory.py is

import torch
from inference_rows.turns import OURS, THEIRS
from process_memory import peak_mebibytes
from transformers import AutoModelForUniversalSegmentation

import unisegment  # noqa: F401  (it tells transformers which models there are)

TINY_SIDE, CHILDREN = 64, 3
"""Peaks of equal processes differ by up to a tenth: the median of some counts."""


def peaks(pair: Sequence, tiny_pair: Sequence, batch_size: int, side: int) -> dict[str, float | None]:
    """Return what each of two contenders needs, by name; None where the system does not count it."""
    found = {}
    for one, tiny in zip(pair, tiny_pair, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/full", f"{folder}/tiny"]
            for path, contender in zip(paths, (one, tiny), strict=True):
                contender.network.save_pretrained(path)
            words = [*paths, *map(str, (batch_size, side, torch.get_num_threads()))]
            said = [_in_a_process(words).split()[-1] for _ in range(CHILDREN)]
            found[one.name] = None if "unknown" in said else statistics.median(map(float, said))
    return found


def _in_a_process(words: Sequence[str]) -> str:
    command = [sys.executable, __file__, *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def peak_of(folder: str, tiny: str, batch_size: int, side: int) -> float | None:
    """Return the MiB that a prediction needs, None where the system does not count them (only Linux does)."""
    predict(load(tiny), torch.zeros(1, 3, TINY_SIDE, TINY_SIDE))
    model, images = load(folder), torch.randn(batch_size, 3, side, side)
    try:
        return peak_mebibytes(lambda: predict(model, images))
    except OSError:
        return None


def peak_of_result(call: Callable[[], Any]) -> float | None:
    """Return the MiB that making a result needs beside it."""
    results: list[Any] = []
    try:
        peak = peak_mebibytes(lambda: results.append(call()))
    except OSError:
        return None
    (result,) = results
    fields = [result] if isinstance(result, torch.Tensor) else getattr(result, "__dict__", result).values()
    return round(peak - sum(value.nbytes for value in fields if isinstance(value, torch.Tensor)) / 2**20, 1)


def memory_row(theirs: float | None, ours: float | None) -> dict[str, Any]:
    """Return peaks, and ours as a share; nothing where the system does not count them."""
    if ours is None or theirs is None:
        return {}
    return {"peak MiB": {THEIRS: theirs, OURS: ours}, "memory ratio": round(ours / max(theirs, 0.1), 3)}


def load(folder: str) -> torch.nn.Module:
    """Return a network all of whose weights have been read: files are read when they are first used."""
    model = AutoModelForUniversalSegmentation.from_pretrained(folder).eval()
    for tensor in model.state_dict().values():
        tensor.sum()
    return model


@torch.no_grad()
def predict(model: torch.nn.Module, images: torch.Tensor) -> object:
    """Return the network's output."""
    return model(images)


def main() -> None:
    """Print the peak."""
    folder, tiny, *numbers = sys.argv[1:]
    batch_size, side, threads = map(int, numbers)
    torch.set_num_threads(threads)
    peak = peak_of(folder, tiny, batch_size, side)
    print("unknown" if peak is None else f"{peak:.1f}")


if __name__ == "__main__":
    main()
