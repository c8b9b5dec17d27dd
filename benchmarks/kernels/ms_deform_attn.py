# SPDX-License-Identifier: Apache-2.0
"""Time, memory and error of deformable attention: our compiled kernel, our PyTorch and transformers' function.

contenders.py says who is compared and on what. Every contender has a process of its own, so that none uses another's
memory again, and they take turns pass by pass: the speed of a machine's memory changes from minute to minute, and must
change for all. All must give the same result and gradients, against float64. In 16 bits transformers' function runs
under autocast, where grid_sample computes in float32: with torch 2.13 on a CPU, grid_sample of such large maps in
bfloat16 itself returned noise or ended the process.

On the CPU; for a GPU there is benchmarks/gpu_report. Run it with nothing else on the machine:

    python benchmarks/kernels/ms_deform_attn.py --threads 1
"""

import argparse
import contextlib
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from contenders import (
    ALLOWED_ERROR,
    DTYPES,
    HEAD_DIM,
    MEASURES,
    NUM_HEADS,
    NUM_POINTS,
    clear_gradients,
    errors_against,
    make_gradient,
    make_inputs,
    print_ratios,
    questions,
    require_gradients,
    rounded,
    truth_of,
)
from process_memory import peak_mebibytes
from torch import Tensor

from unisegment.ops.kernel_backend import describe_backend, resolve_backend


def main() -> None:
    """Measure all contenders in turn, and print and save what was found."""
    arguments = parse_arguments()
    resolve_backend("native")  # builds it, if need be, before the clock runs
    report: dict = {
        "what": f"deformable attention, {NUM_HEADS} heads of {HEAD_DIM} channels, {NUM_POINTS} points, one image",
        "threads": arguments.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "kernel": dict(describe_backend())["kernel"].split(" (")[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    for size in ("encoder", "decoder"):
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
    arguments = contender.shapes, contender.inputs, contender.gradient
    return result | errors_against(truth_of(question, *arguments), contender.function, *arguments)


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


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    default = Path(__file__).parents[1] / "results" / "ms_deform_attn_cpu.json"
    parser.add_argument("--output", type=Path, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
