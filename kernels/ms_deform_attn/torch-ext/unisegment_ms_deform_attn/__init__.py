# SPDX-License-Identifier: Apache-2.0
"""Multi-scale deformable attention, compiled: differentiable functions around the operators of the library.

Axes: b batch, s pixel of all levels (concatenated level by level, row-major), q query, m head, d channel of a head,
l level, p point. Points are (x, y) in [0, 1] over their level's map, (0, 0) being the outer corner of its first pixel.

`_ops`, which gives access to the library's operators, is made by whoever builds it.
"""

import warnings
from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ._ops import add_op_namespace_prefix, ops

__all__ = ["cpu_capability", "layers", "ms_deform_attn", "ms_deform_attn_fused", "set_cpu_capability"]


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sum the values at the sampling locations, weighted.

    Args:
        value: What is sampled, (b s m d), in float32, float64, bfloat16 or float16. All sums are in at least float32.
        spatial_shapes: (height, width) of each level; their areas add up to s.
        sampling_locations: Points (x, y), 1 being the far edge of the level, (b q m l p 2).
        attention_weights: Weight of each point, (b q m l p).

    Returns:
        (b, q, m*d), in value's dtype.

    Raises:
        RuntimeError: When shapes or devices do not fit together, or the compiled code does not cover them.
    """
    computed, locations, weights = _with_allowed_dtypes(value, sampling_locations, attention_weights)
    return ops.ms_deform_attn(computed, _flat(spatial_shapes), locations, weights).to(value.dtype)


def ms_deform_attn_fused(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """Do the same from what the network predicts: offsets in pixels, and weights before the softmax.

    Args:
        value: As for `ms_deform_attn`.
        spatial_shapes: (height, width) of each level; their areas add up to s.
        reference_points: Where the offsets start, (x, y) in [0, 1], (b q l 2). Kept in at least float32.
        sampling_offsets: (x, y) in pixels of their level, (b q m l p 2).
        attention_logits: Weights before the softmax over all levels and points of a head, (b q m l p).

    Returns:
        (b, q, m*d), in value's dtype.

    Raises:
        RuntimeError: When shapes or devices do not fit together, or the compiled code does not cover them.
    """
    computed, offsets, logits = _with_allowed_dtypes(value, sampling_offsets, attention_logits)
    reference = reference_points.to(_real_dtype(computed)).contiguous()
    return ops.ms_deform_attn_fused(computed, _flat(spatial_shapes), reference, offsets, logits).to(value.dtype)


def cpu_capability() -> str:
    """Return the instruction set the CPU code runs with: "default", "avx2" or "avx512".

    Raises:
        AttributeError: When the library has no code for CPUs, as some on the Hub.
    """
    return ops.cpu_capability()


def set_cpu_capability(name: str) -> None:
    """Demand an instruction set, for tests.

    Raises:
        RuntimeError: When this processor does not have it.
    """
    ops.set_cpu_capability(name)


def _flat(spatial_shapes: Sequence[tuple[int, int]]) -> list[int]:
    return [size for height_and_width in spatial_shapes for size in height_and_width]


def _real_dtype(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


def _with_allowed_dtypes(value: Tensor, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bring points and weights to one dtype: that of the values, or else float32 (float64 beside float64)."""
    if value.dtype == torch.float16 and value.device.type == "cpu":  # for which processors have no arithmetic
        value = value.float()
    dtype = value.dtype if points.dtype == weights.dtype == value.dtype else _real_dtype(value)
    return value.contiguous(), points.to(dtype).contiguous(), weights.to(dtype).contiguous()


def _shape_of_output(value: Tensor, spatial_shapes: Sequence[int], *parameters: Tensor) -> Tensor:
    batch_size, _, num_heads, head_dim = value.shape
    return value.new_empty(batch_size, parameters[-1].shape[1], num_heads * head_dim)


def _shapes_of_gradients(
    grad_output: Tensor, value: Tensor, spatial_shapes: Sequence[int], *parameters: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(value), torch.empty_like(parameters[-2]), torch.empty_like(parameters[-1])


def _save_inputs(ctx: FunctionCtx, inputs: tuple, output: Tensor) -> None:
    value, ctx.spatial_shapes, *parameters = inputs
    ctx.save_for_backward(value, *parameters)


def _backward(ctx: FunctionCtx, grad_output: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, locations, weights = ctx.saved_tensors
    _alert_not_deterministic("ms_deform_attn_backward", value)
    grad_value, grad_locations, grad_weights = ops.ms_deform_attn_backward(
        grad_output.contiguous(), value, ctx.spatial_shapes, locations, weights
    )
    return grad_value, None, grad_locations, grad_weights


def _backward_fused(ctx: FunctionCtx, grad_output: Tensor) -> tuple[Tensor, None, Tensor | None, Tensor, Tensor]:
    value, reference, offsets, logits = ctx.saved_tensors
    _alert_not_deterministic("ms_deform_attn_fused_backward", value)
    grad_value, grad_offsets, grad_logits = ops.ms_deform_attn_fused_backward(
        grad_output.contiguous(), value, ctx.spatial_shapes, reference, offsets, logits
    )
    grad_reference = None
    if ctx.needs_input_grad[2]:
        grad_reference = _gradient_of_reference(grad_offsets, ctx.spatial_shapes, reference.dtype)
    return grad_value, None, grad_reference, grad_offsets, grad_logits


def _alert_not_deterministic(name: str, value: Tensor) -> None:
    """Raise or warn under `torch.use_deterministic_algorithms`, as torch's operators that add atomically do.

    Source:
        torch's aten/src/ATen/Context.cpp, alertNotDeterministic, which Python cannot call.
    """
    if value.device.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        return
    is_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    set_to = "True, warn_only=True" if is_warning else "True"
    message = (
        f"{name} does not have a deterministic implementation on CUDA, but you set "
        f"'torch.use_deterministic_algorithms({set_to})'."
    )
    if is_warning:
        warnings.warn(message, stacklevel=3)
        return
    raise RuntimeError(
        f"{message} You can turn off determinism just for this operation, or you can use the 'warn_only=True' option, "
        "if that's acceptable for your application."
    )


def _gradient_of_reference(grad_offsets: Tensor, spatial_shapes: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Sum over what a reference point moves, all samples of its query and level, by its level's size in pixels."""
    moved = grad_offsets.sum((2, 4), dtype=dtype)  # b q l 2
    sizes_xy = [size for pair in zip(spatial_shapes[1::2], spatial_shapes[::2], strict=True) for size in pair]
    # Plain numbers, because a tensor of them would be copied to the GPU and fixed by torch.compile.
    scaled = [moved_by * size for moved_by, size in zip(moved.flatten(2).unbind(-1), sizes_xy, strict=True)]
    return torch.stack(scaled, -1).view_as(moved)


def _save_nothing(ctx: FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    pass


def _raise_on_double_backward(ctx: FunctionCtx, *gradients: Tensor) -> NoReturn:
    raise RuntimeError(
        "The compiled ms_deform_attn has no second derivative (a gradient of a gradient was asked for, perhaps by "
        "create_graph=True). Use the pure PyTorch implementation for that."
    )


for _name, _backward_of in (("ms_deform_attn", _backward), ("ms_deform_attn_fused", _backward_fused)):
    _op = add_op_namespace_prefix(_name)
    torch.library.register_fake(_op)(_shape_of_output)
    torch.library.register_fake(f"{_op}_backward")(_shapes_of_gradients)
    torch.library.register_autograd(_op, _backward_of, setup_context=_save_inputs)
    torch.library.register_autograd(f"{_op}_backward", _raise_on_double_backward, setup_context=_save_nothing)

# For users of the Hub. It imports the functions above.
from . import layers  # noqa: E402
