# SPDX-License-Identifier: Apache-2.0
"""Who is compared in the benchmark of deformable attention, on which inputs, and how far from the truth each may be.

From points: locations and weights are given, as transformers' function takes them. From offsets: what the network
predicts is given; where a function takes only points, softmax and locations are computed before it, as transformers'
layer does.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention

from unisegment.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_fused
from unisegment.pixel_decoders.ms_deform_attn import pixel_centres

NUM_HEADS, HEAD_DIM, NUM_POINTS = 8, 32, 4
# An image of 1024x1024: each pixel of strides 32, 16 and 8 is a query; 300 queries of a decoder on four levels.
SIZES = {
    "encoder": ([(32, 32), (64, 64), (128, 128)], 21504),
    "decoder": ([(16, 16), (32, 32), (64, 64), (128, 128)], 300),
    "tiny": ([(4, 4), (8, 8), (16, 16)], 336),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MEASURES = ("forward seconds", "backward seconds", "forward peak MiB", "forward and backward peak MiB")
ALLOWED_ERROR = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}

Shapes = list[tuple[int, int]]
Function = Callable[..., Tensor]


@functools.cache
def sizes_of(shapes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Return (width, height) of each level. Kept, because making it again would have the CPU wait for a GPU."""
    return torch.tensor([(width, height) for height, width in shapes], device=device)


def points_of(shapes: Shapes, reference_points: Tensor, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return locations and weights as transformers' layer computes them."""
    sizes_xy = sizes_of(tuple(shapes), offsets.device).to(offsets.dtype)
    locations = reference_points[:, :, None, :, None] + offsets / sizes_xy[:, None]
    return locations, logits.flatten(3).softmax(-1).view_as(logits)


def theirs(shapes: Shapes, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Run transformers' function."""
    with torch.autocast(value.device.type, value.dtype, enabled=value.dtype.itemsize == 2):
        return multi_scale_deformable_attention(value, shapes, locations, weights)


def ours(backend: str) -> Function:
    """Return our function of points."""
    return lambda shapes, value, locations, weights: ms_deform_attn(value, shapes, locations, weights, backend=backend)


def ours_fused(backend: str) -> Function:
    """Return our function of offsets."""
    return lambda shapes, value, reference_points, offsets, logits: ms_deform_attn_fused(
        value, shapes, reference_points, offsets, logits, backend=backend
    )


def after_points(function: Function) -> Function:
    """Return a function of offsets: softmax and locations first, then the function of points."""
    return lambda shapes, value, reference_points, offsets, logits: function(
        shapes, value, *points_of(shapes, reference_points, offsets, logits)
    )


def questions(further_peers: dict[str, Function]) -> dict[str, dict[str, Function]]:
    """Return the contenders of each question; the last is what the others are compared with.

    Args:
        further_peers: Functions of points beside transformers', by name.
    """
    peers = {"transformers": theirs, **further_peers}
    return {
        "points": {**peers, "ours in PyTorch": ours("torch"), "our kernel": ours("native")},
        "offsets": {
            **{name: after_points(function) for name, function in peers.items()},
            "ours in PyTorch": ours_fused("torch"),
            "our kernel of points": after_points(ours("native")),
            "our fused kernel": ours_fused("native"),
        },
    }


def make_inputs(
    size: str, question: str, dtype: torch.dtype, batch_size: int = 1, device: str = "cpu", seed: int = 1
) -> tuple[Shapes, dict[str, Tensor]]:
    """Return shapes and tensors as a network has them: offsets of some pixels, positions exact."""
    shapes, num_queries = SIZES[size]
    generator = torch.Generator(device).manual_seed(seed)
    num_pixels = sum(height * width for height, width in shapes)
    centres = torch.rand(num_queries, 2, generator=generator, device=device)
    if num_queries == num_pixels:
        centres = torch.cat([pixel_centres(height, width, torch.device(device)) for height, width in shapes])
    reference_points = centres[None, :, None].repeat(batch_size, 1, len(shapes), 1)
    axes = (batch_size, num_queries, NUM_HEADS, len(shapes), NUM_POINTS)
    # Clear of the borders between pixels, where gradients jump and the last bit of a position decides.
    sizes_xy = sizes_of(tuple(shapes), torch.device(device))
    starts = (reference_points * sizes_xy - 0.5)[:, :, None, :, None]
    positions = starts + 2 * torch.randn(*axes, 2, generator=generator, device=device)
    offsets = positions.floor() + 0.1 + 0.8 * (positions - positions.floor()) - starts
    logits = torch.randn(*axes, generator=generator, device=device)
    value = torch.randn(batch_size, num_pixels, NUM_HEADS, HEAD_DIM, generator=generator, device=device).to(dtype)
    if question == "points":
        locations, weights = points_of(shapes, reference_points, offsets, logits)
        inputs = {"value": value, "locations": locations, "weights": weights.to(dtype)}
    else:
        parameters = {"offsets": offsets.to(dtype), "logits": logits.to(dtype)}
        inputs = {"value": value, "reference_points": reference_points, **parameters}
    return shapes, inputs


def make_gradient(size: str, dtype: torch.dtype, batch_size: int = 1, device: str = "cpu") -> Tensor:
    """Return a gradient of the output."""
    generator = torch.Generator(device).manual_seed(2)
    shape = (batch_size, SIZES[size][1], NUM_HEADS * HEAD_DIM)
    return torch.randn(shape, generator=generator, device=device).to(dtype)


def require_gradients(inputs: dict[str, Tensor]) -> None:
    """Ask for gradients of all tensors but reference points: in an encoder they are pixel centres."""
    for name, tensor in inputs.items():
        tensor.requires_grad_(name != "reference_points")


def truth_of(question: str, shapes: Shapes, inputs: dict[str, Tensor], gradient: Tensor) -> dict[str, Tensor]:
    """Return the output, and the gradient of each input that wants one, of our PyTorch in float64."""
    exact = {key: tensor.detach().double().requires_grad_(tensor.requires_grad) for key, tensor in inputs.items()}
    output = (ours("torch") if question == "points" else ours_fused("torch"))(shapes, **exact)
    output.backward(gradient.double())
    return {"output": output.detach(), **{key: exact[key].grad for key in inputs if exact[key].requires_grad}}


def errors_against(
    truth: dict[str, Tensor], function: Function, shapes: Shapes, inputs: dict[str, Tensor], gradient: Tensor
) -> dict[str, float]:
    """Return errors of the output and of the worst gradient, relative in L2."""
    clear_gradients(inputs)
    output = function(shapes, **inputs)
    output.backward(gradient.to(output.dtype))
    gradients = [relative(inputs[key].grad, wanted) for key, wanted in truth.items() if key != "output"]
    clear_gradients(inputs)
    return {"forward error": relative(output, truth["output"]), "gradient error": max(gradients)}


def clear_gradients(inputs: dict[str, Tensor]) -> None:
    """Forget gradients, so that the next ones are not added to them."""
    for tensor in inputs.values():
        tensor.grad = None


def relative(found: Tensor, truth: Tensor) -> float:
    """Return the norm of a difference, as a share of the true norm."""
    return ((found.double() - truth).norm() / truth.norm()).item()


def rounded(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Keep four digits."""
    return {name: {key: float(f"{value:.4g}") for key, value in values.items()} for name, values in found.items()}


def print_ratios(title: str, found: dict[str, dict[str, float]], measures: tuple[str, ...]) -> None:
    """Print how many times the last contender's share every other one takes."""
    *others, best = found
    print(title)
    for measure in measures:
        ratios = (f"{name} {found[name][measure] / found[best][measure]:5.2f}" for name in others)
        print(f"  {measure:29} {best} 1.00   {'   '.join(ratios)}")
