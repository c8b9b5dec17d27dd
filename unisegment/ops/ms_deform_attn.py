# SPDX-License-Identifier: Apache-2.0
"""Multi-scale deformable attention as functions on tensors: in plain PyTorch, the specification, and compiled.

Every query looks at p points on each of l feature maps, for each of m heads, and takes the weighted sum of what it
finds there. Points between pixels are interpolated bilinearly, points outside a map count as zero.

Axes: b batch, s pixel of all levels (concatenated level by level, row-major), q query, m head, d channel of a head,
l level, p point. Points are (x, y) in [0, 1] over their level's map, (0, 0) being the outer corner of its first pixel.

`backend` says which of the two runs, see ops/kernel_backend.py. Tracing and export always take plain PyTorch, which
other runtimes understand. Second and forward-mode derivatives and vmap have to ask for it: the kernel has none.

Source:
    Deformable DETR (arXiv:2010.04159), equation 3.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unisegment.ops.kernel_backend import (
    DEMANDED,
    Backend,
    BackendError,
    Kernel,
    find_kernel,
    resolve_backend,
    wished_backend,
)
from unisegment.types import Size

# What the kernel has code for. Processors have no arithmetic for float16, GPUs do.
_DTYPES = {
    "cpu": (torch.float32, torch.bfloat16, torch.float64),
    "cuda": (torch.float32, torch.bfloat16, torch.float64, torch.float16),
}
_HEAD_DIM_STEP, _MAX_LEVELS, _MAX_POINTS = 8, 8, 16


def ms_deform_attn(
    value: Float[Tensor, "b s m d"],
    spatial_shapes: Sequence[Size],
    sampling_locations: Float[Tensor, "b q m l p 2"],
    attention_weights: Float[Tensor, "b q m l p"],
    backend: Backend = "auto",
) -> Float[Tensor, "b q m*d"]:
    """Sum the values at the sampling locations, weighted.

    Args:
        value: What is sampled.
        spatial_shapes: (height, width) of each level; their areas add up to s.
        sampling_locations: Points (x, y), 1 being the far edge of the level. Kept in float32 for half-precision values.
        attention_weights: Weight of each point, usually summing to 1 over levels and points.
        backend: What runs, see above.

    Raises:
        ValueError: When shapes or devices do not fit together, or the backend is none of these words.
        BackendError: When the kernel is demanded, and there is none or none for these tensors.
    """
    tensors = {"value": value, "sampling_locations": sampling_locations, "attention_weights": attention_weights}
    _check(spatial_shapes, tensors)
    native = _kernel_for(backend, spatial_shapes, tensors)
    if native is not None:
        return native.ms_deform_attn(value, spatial_shapes, sampling_locations, attention_weights)
    return _reference(value, spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_fused(
    value: Float[Tensor, "b s m d"],
    spatial_shapes: Sequence[Size],
    reference_points: Float[Tensor, "b q l 2"],
    sampling_offsets: Float[Tensor, "b q m l p 2"],
    attention_logits: Float[Tensor, "b q m l p"],
    backend: Backend = "auto",
) -> Float[Tensor, "b q m*d"]:
    """Do the same from what the network predicts: offsets in pixels, and weights before the softmax.

    Args:
        value: What is sampled.
        spatial_shapes: (height, width) of each level; their areas add up to s.
        reference_points: Where the offsets start, (x, y) in [0, 1].
        sampling_offsets: (x, y) in pixels of their level.
        attention_logits: Weights before the softmax over all levels and points of a head.
        backend: As for `ms_deform_attn`.

    Raises:
        ValueError: As for `ms_deform_attn`.
        BackendError: As for `ms_deform_attn`.
    """
    tensors = {
        "value": value,
        "sampling_offsets": sampling_offsets,
        "attention_logits": attention_logits,
        "reference_points": reference_points,
    }
    _check(spatial_shapes, tensors)
    native = _kernel_for(backend, spatial_shapes, tensors)
    if native is not None:
        return native.ms_deform_attn_fused(value, spatial_shapes, reference_points, sampling_offsets, attention_logits)
    compute_dtype = torch.promote_types(value.dtype, torch.float32)
    # Filled, not made of a list: that would be sent to an accelerator, which waits, and be a constant in an export.
    lengths = [
        torch.full((), length, dtype=compute_dtype, device=value.device)
        for height, width in spatial_shapes
        for length in (width, height)
    ]
    offsets = sampling_offsets.to(compute_dtype) / torch.stack(lengths).view(-1, 1, 2)
    locations = reference_points.to(compute_dtype)[:, :, None, :, None] + offsets  # b q m l p 2
    weights = attention_logits.to(compute_dtype).flatten(3).softmax(-1).view_as(attention_logits)
    return _reference(value, spatial_shapes, locations, weights)


@torch.compiler.assume_constant_result
def _decided(backend: Backend, device: torch.device) -> Backend:
    """Return "torch", or else a wish that the kernel can fulfil. torch.compile takes the word and traces no build."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return "torch"
    return "torch" if resolve_backend(backend, device) == "torch" else wished_backend(backend)


def _kernel_for(backend: Backend, spatial_shapes: Sequence[Size], tensors: dict[str, Tensor]) -> ModuleType | None:
    """Return the functions of the kernel if it is to run on these tensors."""
    value, points, *_ = tensors.values()
    wish = _decided(backend, value.device)
    kernel = None if wish == "torch" else find_kernel()
    if not isinstance(kernel, Kernel):
        return None
    if (
        value.dtype in _DTYPES.get(value.device.type, ())
        and value.shape[3] % _HEAD_DIM_STEP == 0
        and 1 <= points.shape[3] <= _MAX_LEVELS
        and 1 <= points.shape[4] <= _MAX_POINTS
    ):
        return kernel.functions
    if wish == "native":
        raise BackendError(
            f"{DEMANDED}, and has no code for {_described(spatial_shapes, tensors)}. It takes float32, bfloat16 and "
            f"float64 values on the CPU, float16 as well on CUDA, heads of a multiple of {_HEAD_DIM_STEP} channels, up "
            f"to {_MAX_LEVELS} levels and up to {_MAX_POINTS} points. 'auto' takes plain PyTorch here."
        )
    return None


def _reference(
    value: Tensor, spatial_shapes: Sequence[Size], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    batch_size, _, num_heads, head_dim = value.shape
    num_queries = sampling_locations.shape[1]
    # Half precision cannot place a point: at a width of 333, one step of bfloat16 is more than a pixel.
    compute_dtype = torch.promote_types(value.dtype, torch.float32)
    grids = (2 * sampling_locations.to(compute_dtype) - 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # (b m) l q p 2
    weights = attention_weights.to(compute_dtype).permute(0, 2, 3, 1, 4).flatten(0, 1)  # (b m) l q p
    maps = value.to(compute_dtype).permute(0, 2, 3, 1).flatten(0, 1)  # (b m) d s
    output = maps.new_zeros(batch_size * num_heads, head_dim, num_queries)
    # Level by level, so that never more than one level's samples exist.
    for level, (level_map, (height, width)) in enumerate(
        zip(maps.split([height * width for height, width in spatial_shapes], dim=2), spatial_shapes, strict=True)
    ):
        samples = F.grid_sample(
            level_map.unflatten(2, (height, width)), grids[:, level], padding_mode="zeros", align_corners=False
        )  # (b m) d q p
        output = output + (samples * weights[:, level, None]).sum(-1)
    return output.unflatten(0, (batch_size, num_heads)).permute(0, 3, 1, 2).flatten(2).to(value.dtype)


def _check(spatial_shapes: Sequence[Size], tensors: dict[str, Tensor]) -> None:
    """Refuse tensors that do not fit together: value, points, weights and, where there are any, reference points."""
    value, points, weights, *reference_points = tensors.values()
    points_name, weights_name = list(tensors)[1:3]
    if value.ndim != 4 or points.ndim != 6 or points.shape[-1] != 2:
        expected = f"Expected value (b s m d) and {points_name} (b q m l p 2)"
        raise ValueError(f"{expected}, got {_described(spatial_shapes, tensors)}.")
    batch_size, num_queries, num_heads, num_levels, *_ = points.shape
    for fits, message in (
        (weights.shape == points.shape[:-1], f"{weights_name} must have the shape of {points_name} without its last 2"),
        (value.shape[0] == batch_size, f"value and {points_name} must agree in batch and heads"),
        (value.shape[2] == num_heads, f"value and {points_name} must agree in batch and heads"),
        (len(spatial_shapes) == num_levels, f"{points_name} must have one entry per level of spatial_shapes"),
        (
            sum(height * width for height, width in spatial_shapes) == value.shape[1],
            "The areas of spatial_shapes must add up to the second axis of value",
        ),
        (
            all(tensor.shape == (batch_size, num_queries, num_levels, 2) for tensor in reference_points),
            f"reference_points must be (b q l 2), with the b, q and l of {points_name}",
        ),
        (len({tensor.device for tensor in tensors.values()}) == 1, "All tensors must be on one device"),
        (all(tensor.is_floating_point() for tensor in tensors.values()), "All tensors must hold floats"),
    ):
        if not fits:
            raise ValueError(f"{message}: {_described(spatial_shapes, tensors)}.")


def _described(spatial_shapes: Sequence[Size], tensors: dict[str, Tensor]) -> str:
    parts = [f"{name} {tuple(tensor.shape)} {tensor.dtype} on {tensor.device}" for name, tensor in tensors.items()]
    return ", ".join([*parts, f"spatial_shapes {list(spatial_shapes)}"]).replace("torch.", "")
