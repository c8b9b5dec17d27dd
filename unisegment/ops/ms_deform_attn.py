# SPDX-License-Identifier: Apache-2.0
"""Multi-scale deformable attention as functions on tensors: the specification, in plain PyTorch.

Every query looks at p points on each of l feature maps, for each of m heads, and takes the weighted sum of what it
finds there. Points between pixels are interpolated bilinearly, points outside a map count as zero.

Axes: b batch, s pixel of all levels (concatenated level by level, row-major), q query, m head, d channel of a head,
l level, p point. Points are (x, y) in [0, 1] over their level's map, (0, 0) being the outer corner of its first pixel.

Source:
    Deformable DETR (arXiv:2010.04159), equation 3.
"""

import os
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unisegment.types import Size

Backend = Literal["auto", "native", "torch"]
ENVIRONMENT_VARIABLE = "UNISEGMENT_KERNELS"


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
        backend: "torch" and "auto" run this PyTorch code. "native" asks for a compiled kernel.

    Raises:
        ValueError: When the shapes do not fit together.
        RuntimeError: When a compiled kernel is demanded; this version has none.
    """
    resolve_backend(backend)
    _check_shapes(value, spatial_shapes, sampling_locations, attention_weights)
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
        ValueError: When the shapes do not fit together.
        RuntimeError: When a compiled kernel is demanded; this version has none.
    """
    if attention_logits.shape[3] != len(spatial_shapes):
        raise ValueError(
            f"attention_logits has {attention_logits.shape[3]} levels (shape {tuple(attention_logits.shape)}), "
            f"spatial_shapes has {len(spatial_shapes)}."
        )
    compute_dtype = torch.promote_types(value.dtype, torch.float32)
    sizes_xy = sampling_offsets.new_tensor([(width, height) for height, width in spatial_shapes], dtype=compute_dtype)
    offsets = sampling_offsets.to(compute_dtype) / sizes_xy[:, None]
    locations = reference_points.to(compute_dtype)[:, :, None, :, None] + offsets  # b q m l p 2
    weights = attention_logits.to(compute_dtype).flatten(3).softmax(-1).view_as(attention_logits)
    return ms_deform_attn(value, spatial_shapes, locations, weights, backend)


def resolve_backend(backend: Backend = "auto") -> Literal["torch"]:
    """Return which implementation will run, as asked for by argument or by UNISEGMENT_KERNELS.

    Raises:
        ValueError: For a word other than auto, native and torch.
        RuntimeError: When a compiled kernel is demanded; this version has none.
    """
    wish = os.environ.get(ENVIRONMENT_VARIABLE, "auto") if backend == "auto" else backend
    if wish not in ("auto", "native", "torch"):
        raise ValueError(f"backend and {ENVIRONMENT_VARIABLE} take auto, native or torch, got {wish!r}.")
    if wish == "native":
        raise RuntimeError(
            "A compiled ms_deform_attn kernel is demanded (backend or UNISEGMENT_KERNELS is 'native'), but this "
            "version of unisegment has none. Use 'auto' or 'torch'."
        )
    return "torch"


def _check_shapes(
    value: Tensor, spatial_shapes: Sequence[Size], sampling_locations: Tensor, attention_weights: Tensor
) -> None:
    shapes = (
        f"value {tuple(value.shape)}, spatial_shapes {list(spatial_shapes)}, sampling_locations "
        f"{tuple(sampling_locations.shape)}, attention_weights {tuple(attention_weights.shape)}"
    )
    if value.ndim != 4 or sampling_locations.ndim != 6 or sampling_locations.shape[-1] != 2:
        raise ValueError(f"Expected value (b s m d) and sampling_locations (b q m l p 2), got {shapes}.")
    if attention_weights.shape != sampling_locations.shape[:-1]:
        raise ValueError(f"attention_weights must have the shape of sampling_locations without its last 2: {shapes}.")
    if sampling_locations.shape[0] != value.shape[0] or sampling_locations.shape[2] != value.shape[2]:
        raise ValueError(f"value and sampling_locations must agree in batch and heads: {shapes}.")
    if sampling_locations.shape[3] != len(spatial_shapes):
        raise ValueError(f"sampling_locations must have one entry per level of spatial_shapes: {shapes}.")
    if sum(height * width for height, width in spatial_shapes) != value.shape[1]:
        raise ValueError(f"The areas of spatial_shapes must add up to the second axis of value: {shapes}.")
