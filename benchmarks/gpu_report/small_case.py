# SPDX-License-Identifier: Apache-2.0
"""A script for compute-sanitizer and ncu: the operators of a library, both forms, both directions, and nothing else.

It imports torch and not unisegment, because under such tools every import takes long.
"""

import argparse
import ctypes

import torch
from torch import Tensor

# Heads, (height, width) of each level. Every pixel of every level is a query.
SIZES = {
    "tiny": (3, [(7, 11), (3, 5), (1, 2)]),
    "encoder": (8, [(32, 32), (64, 64), (128, 128)]),
}
HEAD_DIM, NUM_POINTS = 32, 4


def main() -> None:
    """Run what the words ask for, once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", help="with the operators")
    parser.add_argument("namespace", help="of them in torch.ops")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--forms", nargs="+", choices=("fused", "plain"), default=["fused", "plain"])
    parser.add_argument("--planted", nargs=2, metavar=("FAULT", "LIBRARY"), help="a fault of rates.cu instead")
    arguments = parser.parse_args()
    if arguments.planted:
        plant(*arguments.planted)
        return
    torch.ops.load_library(arguments.library)
    operators = getattr(torch.ops, arguments.namespace)
    for dtype in arguments.dtypes:
        for form in arguments.forms:
            run(operators, form, getattr(torch, dtype), arguments)
            print(f"done: {dtype} {form}", flush=True)


def run(operators: object, form: str, dtype: torch.dtype, arguments: argparse.Namespace) -> None:
    """Run one form in both directions."""
    inputs, gradient = make_case(arguments.size, form, dtype, arguments.device)
    name = "ms_deform_attn_fused" if form == "fused" else "ms_deform_attn"
    output = getattr(operators, name)(*inputs)
    gradients = getattr(operators, f"{name}_backward")(gradient, *inputs)
    for tensor in (output, *gradients):
        assert tensor.isfinite().all(), f"{name} gave what is no number"


def make_case(size: str, form: str, dtype: torch.dtype, device: str) -> tuple[list, Tensor]:
    """Return what an operator takes in an encoder, offsets being some pixels, and a gradient of its output."""
    num_heads, shapes = SIZES[size]
    num_pixels = sum(height * width for height, width in shapes)
    generator = torch.Generator(device).manual_seed(1)

    def random(*axes: int) -> Tensor:
        return torch.randn(axes, generator=generator, device=device)

    samples = (1, num_pixels, num_heads, len(shapes), NUM_POINTS)
    value = random(1, num_pixels, num_heads, HEAD_DIM).to(dtype)
    centres = torch.cat([centres_of(height, width, device) for height, width in shapes])
    offsets, logits = 2 * random(*samples, 2), random(*samples)
    flat = [length for height_and_width in shapes for length in height_and_width]
    gradient = random(1, num_pixels, num_heads * HEAD_DIM).to(dtype)
    if form == "fused":
        reference = centres[None, :, None].repeat(1, 1, len(shapes), 1)
        return [value, flat, reference, offsets.to(dtype), logits.to(dtype)], gradient
    sizes = torch.tensor([(width, height) for height, width in shapes], device=device)[:, None]
    locations = centres[None, :, None, None, None] + offsets / sizes
    weights = logits.flatten(3).softmax(-1).view(samples)
    return [value, flat, locations.to(dtype), weights.to(dtype)], gradient


def centres_of(height: int, width: int, device: str) -> Tensor:
    """Return (x, y) of all pixel centres of a level, in [0, 1], row by row."""
    y, x = (torch.arange(length, device=device).add(0.5) / length for length in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)


def plant(fault: str, path: str) -> None:
    """Write 4 KiB beyond a tensor, or read what another warp may not have written yet."""
    library, numbers = ctypes.CDLL(path), torch.zeros(64, device="cuda")
    pointer = ctypes.c_void_p(numbers.data_ptr())
    if fault == "out_of_bounds":
        library.plant_out_of_bounds(pointer, 1024, None)
    else:
        library.plant_race(pointer, None)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
