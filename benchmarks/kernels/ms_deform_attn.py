# SPDX-License-Identifier: Apache-2.0
"""Time, memory and error of deformable attention: our compiled kernel, our PyTorch and transformers' function.

Two questions are asked. From points: locations and weights are given, as transformers' function takes them. From
offsets: what the network predicts is given, so that softmax and locations are to be computed first; where a function
takes only points, they are computed before it, as transformers' layer does.

Every contender runs in processes of its own, in turn, so that none warms another's caches or shares its memory. All
must give the same result and gradients: to 1e-5 (float32) or 1e-2 (bfloat16) of their norm, against float64. In
bfloat16 transformers' function runs under autocast, where grid_sample computes in float32: with torch 2.13 on a CPU,
grid_sample of such large maps in bfloat16 itself returned noise or ended the process.

Run it with nothing else on the machine:

    python benchmarks/kernels/ms_deform_attn.py --threads 1
"""

import argparse
import ctypes
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention

from unisegment.ops.kernel_backend import describe_backend, resolve_backend
from unisegment.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_fused
from unisegment.pixel_decoders.ms_deform_attn import pixel_centres

NUM_HEADS, HEAD_DIM, NUM_POINTS = 8, 32, 4
# An image of 1024x1024: each pixel of strides 32, 16 and 8 is a query; 300 queries of a decoder on four levels.
SIZES = {
    "encoder": ([(32, 32), (64, 64), (128, 128)], 21504),
    "decoder": ([(16, 16), (32, 32), (64, 64), (128, 128)], 300),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MEASURES = ("forward seconds", "backward seconds", "forward peak MiB", "forward and backward peak MiB")

ALLOWED_ERROR = {"float32": 1e-5, "bfloat16": 1e-2}

Shapes = list[tuple[int, int]]


def points_of(shapes: Shapes, reference_points: Tensor, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return locations and weights as transformers' layer computes them."""
    sizes_xy = torch.tensor([(width, height) for height, width in shapes], dtype=offsets.dtype)
    locations = reference_points[:, :, None, :, None] + offsets / sizes_xy[:, None]
    return locations, logits.flatten(3).softmax(-1).view_as(logits)


def theirs(shapes: Shapes, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Run transformers' function."""
    with torch.autocast("cpu", torch.bfloat16, enabled=value.dtype == torch.bfloat16):
        return multi_scale_deformable_attention(value, shapes, locations, weights)


def ours(backend: str) -> Callable[..., Tensor]:
    """Return our function of points."""
    return lambda shapes, value, locations, weights: ms_deform_attn(value, shapes, locations, weights, backend=backend)


def ours_fused(backend: str) -> Callable[..., Tensor]:
    """Return our function of offsets."""
    return lambda shapes, value, reference_points, offsets, logits: ms_deform_attn_fused(
        value, shapes, reference_points, offsets, logits, backend=backend
    )


def after_points(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function of offsets: softmax and locations first, then the function of points."""
    return lambda shapes, value, reference_points, offsets, logits: function(
        shapes, value, *points_of(shapes, reference_points, offsets, logits)
    )


# In each, the last is what the others are compared with.
QUESTIONS: dict[str, dict[str, Callable[..., Tensor]]] = {
    "points": {"transformers": theirs, "ours in PyTorch": ours("torch"), "our kernel": ours("native")},
    "offsets": {
        "transformers": after_points(theirs),
        "ours in PyTorch": ours_fused("torch"),
        "our kernel of points": after_points(ours("native")),
        "our fused kernel": ours_fused("native"),
    },
}


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
    for size in SIZES:
        for dtype in DTYPES:
            for question in QUESTIONS:
                title = f"{size}, {dtype}, from {question}"
                report[title] = found = compare(size, dtype, question, arguments)
                print_ratios(title, found)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def compare(size: str, dtype: str, question: str, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the medians over some rounds for every contender; refuse wrong results."""
    rounds: dict[str, list[dict]] = {name: [] for name in QUESTIONS[question]}
    for number in range(arguments.rounds):
        for name, results in rounds.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results.append(pool.apply(measure, (size, dtype, question, name, number == 0, arguments)))
    found = {}
    for name, results in rounds.items():
        found[name] = {key: statistics.median(result[key] for result in results if key in result) for key in results[0]}
        for key in ("forward error", "gradient error"):
            assert found[name][key] <= ALLOWED_ERROR[dtype], f"{name}: {key} {found[name][key]} in {size}, {dtype}"
    return {name: {key: float(f"{value:.4g}") for key, value in values.items()} for name, values in found.items()}


def print_ratios(title: str, found: dict[str, dict[str, float]]) -> None:
    """Print how many times the fastest contender's share every other one takes."""
    *others, best = found
    print(title)
    for measure_name in MEASURES:
        ratios = (f"{name} {found[name][measure_name] / found[best][measure_name]:5.2f}" for name in others)
        print(f"  {measure_name:29} {best} 1.00   {'   '.join(ratios)}")


def measure(
    size: str, dtype: str, question: str, name: str, with_errors: bool, arguments: argparse.Namespace
) -> dict[str, float]:
    """Return peaks of memory, medians of time and, if asked, errors of one contender in this fresh process."""
    torch.set_num_threads(arguments.threads)
    shapes, inputs = make_inputs(size, question, DTYPES[dtype])
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(1, SIZES[size][1], NUM_HEADS * HEAD_DIM, generator=generator).to(DTYPES[dtype])

    def forward() -> Tensor:
        return QUESTIONS[question][name](shapes, **inputs)

    def backward(output: Tensor) -> None:
        output.backward(gradient.to(output.dtype))

    # The first call of each kind is the one whose memory is taken: the process has none yet to use again.
    with torch.no_grad():
        result = {MEASURES[2]: peak_mebibytes(forward)}
    for key, tensor in inputs.items():
        tensor.requires_grad_(key != "reference_points")  # in an encoder they are pixel centres
    result[MEASURES[3]] = peak_mebibytes(lambda: backward(forward()))
    if with_errors:
        result |= errors(question, shapes, inputs, forward, gradient)
    forward_seconds, backward_seconds = [], []
    for _ in range(arguments.repeats):
        with torch.no_grad():
            forward_seconds.append(seconds(forward))
        clear_gradients(inputs)
        output = forward()
        backward_seconds.append(seconds(lambda output=output: backward(output)))
    return result | {MEASURES[0]: statistics.median(forward_seconds), MEASURES[1]: statistics.median(backward_seconds)}


def make_inputs(size: str, question: str, dtype: torch.dtype) -> tuple[Shapes, dict[str, Tensor]]:
    """Return shapes and tensors as a network has them: offsets of some pixels, positions exact."""
    shapes, num_queries = SIZES[size]
    generator = torch.Generator().manual_seed(1)
    num_pixels = sum(height * width for height, width in shapes)
    centres = torch.rand(num_queries, 2, generator=generator)
    if num_queries == num_pixels:
        centres = torch.cat([pixel_centres(height, width, torch.device("cpu")) for height, width in shapes])
    reference_points = centres[None, :, None].repeat(1, 1, len(shapes), 1)
    axes = (1, num_queries, NUM_HEADS, len(shapes), NUM_POINTS)
    # Clear of the borders between pixels, where gradients jump and the last bit of a position decides.
    sizes_xy = torch.tensor([(width, height) for height, width in shapes])
    starts = (reference_points * sizes_xy - 0.5)[:, :, None, :, None]
    positions = starts + 2 * torch.randn(*axes, 2, generator=generator)
    offsets = positions.floor() + 0.1 + 0.8 * (positions - positions.floor()) - starts
    logits = torch.randn(*axes, generator=generator)
    value = torch.randn(1, num_pixels, NUM_HEADS, HEAD_DIM, generator=generator).to(dtype)
    if question == "points":
        locations, weights = points_of(shapes, reference_points, offsets, logits)
        return shapes, {"value": value, "locations": locations, "weights": weights.to(dtype)}
    parameters = {"offsets": offsets.to(dtype), "logits": logits.to(dtype)}
    return shapes, {"value": value, "reference_points": reference_points, **parameters}


def errors(
    question: str, shapes: Shapes, inputs: dict[str, Tensor], forward: Callable[[], Tensor], gradient: Tensor
) -> dict[str, float]:
    """Return errors of the output and of the worst gradient, relative in L2, against our PyTorch in float64."""
    clear_gradients(inputs)
    output = forward()
    output.backward(gradient.to(output.dtype))
    exact = {key: tensor.detach().double().requires_grad_(tensor.requires_grad) for key, tensor in inputs.items()}
    truth = QUESTIONS[question]["ours in PyTorch"](shapes, **exact)
    truth.backward(gradient.double())
    gradients = [relative(inputs[key].grad, exact[key].grad) for key in inputs if inputs[key].requires_grad]
    return {"forward error": relative(output, truth), "gradient error": max(gradients)}


def clear_gradients(inputs: dict[str, Tensor]) -> None:
    """Forget gradients, so that the next ones are not added to them."""
    for tensor in inputs.values():
        tensor.grad = None


def relative(found: Tensor, truth: Tensor) -> float:
    """Return the norm of a difference, as a share of the true norm."""
    return ((found.double() - truth).norm() / truth.norm()).item()


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


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    results = Path(__file__).parents[1] / "results"
    parser.add_argument("--output", type=Path, default=results / "ms_deform_attn_cpu.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
