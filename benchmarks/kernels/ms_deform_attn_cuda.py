# SPDX-License-Identifier: Apache-2.0
"""The part of ms_deform_attn.py that runs on a GPU.

Times are medians between CUDA events, with the inputs changing from call to call, more of them than the L2 cache holds,
and with the GPU kept busy before each call until the CPU has prepared it: launches are not measured. Beside each figure
stands the least time that roofline.py finds possible, and the share of it.

A peer that does not take some tensors, or is far from the truth, says so in its row; ours would end the run.
"""

import argparse
import importlib.machinery
import importlib.util
import json
import math
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

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
    Function,
    Shapes,
    clear_gradients,
    errors,
    make_gradient,
    make_inputs,
    print_ratios,
    questions,
    require_gradients,
    rounded,
    sizes_of,
    theirs,
)
from roofline import floors, rates_of, traffic
from torch import Tensor

from unisegment.ops.kernel_backend import describe_backend, resolve_backend

WARM_UPS = 5
HEAD_START = 5_000_000  # cycles, some 3 ms, in which the CPU prepares a call
Inputs = dict[str, Tensor]


def run(arguments: argparse.Namespace) -> None:
    """Measure all contenders on all sizes, and print and save what was found."""
    device, name = arguments.device, torch.cuda.get_device_name(arguments.device)
    resolve_backend("native", torch.device(device, 0))  # builds it, if need be, or says why it cannot
    rates = rates_of(device)
    report: dict = {
        "what": f"deformable attention, {NUM_HEADS} heads of {HEAD_DIM} channels, {NUM_POINTS} points",
        "gpu": name,
        "kernel": dict(describe_backend())["kernel_on_gpus"],
        "bytes per second": {key: float(f"{rate:.4g}") for key, rate in rates.items()},
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": transformers.__version__,
    }
    peers = find_peers(arguments.sensetime)
    for size in SIZES:
        for batch_size in arguments.batch_sizes:
            for dtype in arguments.dtypes:
                for question in questions(peers):
                    title = f"{size}, {dtype}, from {question}, batch {batch_size}"
                    report[title] = found = compare(size, dtype, question, batch_size, peers, rates, arguments)
                    print_ratios(title, {key: row for key, row in found.items() if MEASURES[0] in row}, MEASURES)
    slug = re.sub(r"\W+", "_", name.lower())
    output = arguments.output or Path(__file__).parents[1] / "results" / f"ms_deform_attn_{slug}.json"
    output.write_text(json.dumps(report, indent=2) + "\n")


def compare(
    size: str,
    dtype: str,
    question: str,
    batch_size: int,
    peers: dict[str, Function],
    rates: dict[str, float],
    arguments: argparse.Namespace,
) -> dict[str, dict]:
    """Return what was measured of every contender, beside the floors."""
    torch.compiler.reset()  # of what was compiled for other sizes
    shapes, inputs = make_inputs(size, question, DTYPES[dtype], batch_size, arguments.device)
    sets = [inputs]
    cache = torch.cuda.get_device_properties(arguments.device).L2_cache_size
    for seed in range(2, 1 + number_of_sets(inputs, cache)):
        sets.append(make_inputs(size, question, DTYPES[dtype], batch_size, arguments.device, seed)[1])
    for each in sets:
        require_gradients(each)
    gradient = make_gradient(size, DTYPES[dtype], batch_size, arguments.device)
    element = DTYPES[dtype].itemsize
    least = {
        direction: floors(traffic(size, question, element, batch_size, direction == "backward"), rates)
        for direction in ("forward", "backward")
    }
    rows: dict[str, dict] = {}
    for name, function in questions(peers)[question].items():
        try:
            row = measure(question, function, shapes, sets, gradient, arguments.repeats)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            if name.startswith("our"):
                raise
            rows[name] = {"error": str(error).split("\n")[0]}
            continue
        wrong = max(row["forward error"], row["gradient error"]) > ALLOWED_ERROR[dtype]
        assert not (wrong and name.startswith("our")), f"{name}: {row}"
        rows[name] = rounded({name: row})[name] | ({"error": "far from the truth"} if wrong else {})
        for direction, floor in least.items():
            share = max(floor.values()) / row[f"{direction} seconds"]
            rows[name][f"{direction} share of the possible"] = float(f"{share:.3g}")
    return {**rounded({f"least seconds {key}": floor for key, floor in least.items()}), **rows}


def number_of_sets(inputs: Inputs, cache_bytes: int) -> int:
    """Return how many sets of inputs are more than twice what the cache holds."""
    return math.floor(2 * cache_bytes / sum(tensor.nbytes for tensor in inputs.values())) + 2


def measure(
    question: str, function: Function, shapes: Shapes, sets: Sequence[Inputs], gradient: Tensor, repeats: int
) -> dict[str, float]:
    """Return errors, medians of time and peaks of memory of one contender."""

    def forward(inputs: Inputs) -> Tensor:
        return function(shapes, **inputs)

    def backward(inputs: Inputs, output: Tensor) -> None:
        leaves = [tensor for tensor in inputs.values() if tensor.requires_grad]
        torch.autograd.grad(output, leaves, gradient.to(output.dtype))

    result = errors(question, function, shapes, sets[0], gradient)
    clear_gradients(sets[0])
    with torch.no_grad():
        result[MEASURES[2]] = peak_mebibytes(lambda: forward(sets[0]))
        result[MEASURES[0]] = seconds(sets, lambda inputs: None, lambda inputs, _: forward(inputs), repeats)
    result[MEASURES[3]] = peak_mebibytes(lambda: backward(sets[0], forward(sets[0])))
    result[MEASURES[1]] = seconds(sets, forward, backward, repeats)
    return result


def seconds(sets: Sequence[Inputs], prepare: Callable, timed: Callable, repeats: int) -> float:
    """Return the median time of a call, which gets the next inputs and what was prepared of them."""
    events = []
    for number in range(WARM_UPS + repeats):
        inputs = sets[number % len(sets)]
        prepared = prepare(inputs)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(HEAD_START)
        start.record()
        timed(inputs, prepared)
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) / 1000 for start, end in events[WARM_UPS:])


def peak_mebibytes(call: Callable[[], object]) -> float:
    """Return how much memory a call needs at most, above what there is before."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def find_peers(sensetime: str | None) -> dict[str, Function]:
    """Return functions of points to compare with, beside transformers' own."""
    peers: dict[str, Function] = {"transformers, compiled": torch.compile(theirs, dynamic=False)}
    if sensetime:
        peers["SenseTime's kernel"] = sensetime_function(load_sensetime(sensetime))
    if importlib.util.find_spec("deformops"):
        peers["deformops"] = deformops_function()
    return peers


def load_sensetime(name: str) -> ModuleType:
    """Return the module with ms_deform_attn_forward and _backward: a library of it, a folder, or a name on the Hub."""
    path = Path(name)
    if path.is_file():  # MultiScaleDeformableAttention.cpython-….so
        loader = importlib.machinery.ExtensionFileLoader(path.name.split(".")[0], str(path))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
        loader.exec_module(module)
        return module
    from kernels import get_kernel, get_local_kernel

    return get_local_kernel(path) if path.is_dir() else get_kernel(name)


def level_starts(shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (height, width) and the first pixel of each level, as older kernels take them."""
    sizes = sizes_of(tuple(shapes), device).flip(1).contiguous()
    areas = sizes.prod(1)
    return sizes, areas.cumsum(0) - areas


def sensetime_function(module: ModuleType) -> Function:
    """Return the original kernel as a function of points. It takes one type for all: 16-bit locations are rounded."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, step, *tensors):
            ctx.step = step
            ctx.save_for_backward(*tensors)
            return module.ms_deform_attn_forward(*tensors, step)

        @staticmethod
        def backward(ctx, gradient):
            grads = module.ms_deform_attn_backward(*ctx.saved_tensors, gradient.contiguous(), ctx.step)
            return None, grads[0], None, None, *grads[1:]

    def function(shapes: Shapes, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        sizes, starts = level_starts(shapes, value.device)
        parameters = locations.to(value.dtype), weights.to(value.dtype)
        return Attention.apply(min(len(value), 64), value, sizes, starts, *parameters)

    return function


def deformops_function() -> Function:
    """Return the function of points of the package deformops, version 3."""
    from deformops.registry import msda

    def function(shapes: Shapes, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        sizes, starts = level_starts(shapes, value.device)
        return msda(value, sizes, starts, locations, weights)

    return function
