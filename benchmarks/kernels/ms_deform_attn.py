# SPDX-License-Identifier: Apache-2.0
"""Time, memory and error of deformable attention: our compiled kernel, our PyTorch and transformers' function.

contenders.py says who is compared and on what, ms_deform_attn_cuda.py how it is done on a GPU. On the CPU every
contender has a process of its own, so that none uses another's memory again, and they take turns pass by pass: the
speed of a machine's memory changes from minute to minute, and must change for all. All must give the same result and
gradients, against float64. In 16 bits transformers' function runs under autocast, where grid_sample
computes in float32: with torch 2.13 on a CPU, grid_sample of such large maps in bfloat16 itself returned noise or ended
the process.

Run it with nothing else on the machine:

    python benchmarks/kernels/ms_deform_attn.py --threads 1
    python benchmarks/kernels/ms_deform_attn.py --device cuda --sensetime kernels-community/deformable-detr
"""

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import ms_deform_attn_cuda
import torch
import transformers
from contenders import (
    ALLOWED_ERROR,
    DTYPES,
    HEAD_DIM,
    MEASURES,
    NUM_HEADS,
    NUM_POINTS,
    SIZES,
    clear_gradients,
    errors,
    make_gradient,
    make_inputs,
    print_ratios,
    questions,
    require_gradients,
    rounded,
)
from torch import Tensor

from unisegment.ops.kernel_backend import describe_backend, resolve_backend


def main() -> None:
    """Measure all contenders in turn, and print and save what was found."""
    arguments = parse_arguments()
    if arguments.device == "cuda":
        ms_deform_attn_cuda.run(arguments)
        return
    resolve_backend("native")  # builds it, if need be, before the clock runs
    report: dict = {
        "what": f"deformable attention, {NUM_HEADS} heads of {HEAD_DIM} channels, {NUM_POINTS} points, one image",
        "threads": arguments.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "kernel": dict(describe_backend())["kernel"].split(" (")[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    for size in SIZES:
        for dtype in arguments.dtypes:
            for question in questions({}):
                title = f"{size}, {dtype}, from {question}"
                report[title] = found = compare(size, dtype, question, arguments)
                print_ratios(title, found, MEASURES)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def compare(size: str, dtype: str, question: str, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return memory, errors and medians of time of every contender; refuse wrong results."""
    found: dict[str, dict[str, float]] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in questions({})[question]}
    with contextlib.ExitStack() as stack:
        pools = {name: stack.enter_context(multiprocessing.get_context("spawn").Pool(1)) for name in times}
        for name, pool in pools.items():
            found[name] = pool.apply(prepare, (size, dtype, question, name, arguments.threads))
            for key in ("forward error", "gradient error"):
                assert found[name][key] <= ALLOWED_ERROR[dtype], f"{name}: {key} {found[name][key]} in {size}, {dtype}"
        for _ in range(arguments.repeats):
            for name, pool in pools.items():
                times[name].append(pool.apply(time_once))
    for name, pairs in times.items():
        found[name] |= {MEASURES[i]: statistics.median(pair[i] for pair in pairs) for i in range(2)}
    return rounded(found)


def prepare(size: str, dtype: str, question: str, name: str, threads: int) -> dict[str, float]:
    """Make this fresh process one contender; return its peaks of memory and its errors."""
    global contender
    torch.set_num_threads(threads)
    contender = Contender(size, dtype, question, name)
    # The first call of each kind is the one whose memory is taken: the process has none yet to use again.
    with torch.no_grad():
        result = {MEASURES[2]: peak_mebibytes(contender.forward)}
    require_gradients(contender.inputs)
    result[MEASURES[3]] = peak_mebibytes(lambda: contender.backward(contender.forward()))
    return result | errors(question, contender.function, contender.shapes, contender.inputs, contender.gradient)


def time_once() -> tuple[float, float]:
    """Return the seconds of one forward pass without gradients, and of one backward pass, in this process."""
    with torch.no_grad():
        forward_seconds = seconds(contender.forward)
    clear_gradients(contender.inputs)
    output = contender.forward()
    return forward_seconds, seconds(lambda: contender.backward(output))


class Contender:
    """One way to compute deformable attention, with inputs to compute it on."""

    def __init__(self, size: str, dtype: str, question: str, name: str) -> None:
        self.shapes, self.inputs = make_inputs(size, question, DTYPES[dtype])
        self.gradient = make_gradient(size, DTYPES[dtype])
        self.function = questions({})[question][name]

    def forward(self) -> Tensor:
        """Return the result."""
        return self.function(self.shapes, **self.inputs)

    def backward(self, output: Tensor) -> None:
        """Add up the gradients of the inputs."""
        output.backward(self.gradient.to(output.dtype))


contender: Contender  # of this process, see `prepare`


def seconds(run: Callable[[], object]) -> float:
    """Time a function once."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_mebibytes(run: Callable[[], object]) -> float:
    """Return how much memory a function needs at most, above what the process has before (Linux only)."""
    ctypes.CDLL(None).malloc_trim(0)  # what is free is given back, so that taking it again is seen
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = status_mebibytes("VmRSS")
    run()
    return status_mebibytes("VmHWM") - before


def status_mebibytes(key: str) -> float:
    """Return a line of the system's report on this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line, and fill in what differs between devices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), help="all but float16, which needs a GPU")
    parser.add_argument("--repeats", type=int, help="9, or 50 on a GPU")
    parser.add_argument("--output", type=Path, help="a file in benchmarks/results, on a GPU named after it")
    cpu, cuda = parser.add_argument_group("on the CPU"), parser.add_argument_group("on a GPU")
    cpu.add_argument("--threads", type=int, default=1)
    cuda.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 16])
    cuda.add_argument("--sensetime", metavar="KERNEL", help="the original one: a library, a folder, a name on the Hub")
    arguments = parser.parse_args(words)
    on_cpu = arguments.device == "cpu"
    arguments.dtypes = arguments.dtypes or [name for name in DTYPES if name != "float16" or not on_cpu]
    arguments.repeats = arguments.repeats or (9 if on_cpu else 50)
    if on_cpu and arguments.output is None:
        arguments.output = Path(__file__).parents[1] / "results" / "ms_deform_attn_cpu.json"
    return arguments


if __name__ == "__main__":
    main()
