# SPDX-License-Identifier: Apache-2.0
"""A convolution whose channels are scaled and shifted by constants, with a sum and a ReLU, as one step of training.

Autograd would keep the scaled weights beside the weights, and a CPU could not sum and activate while a result is still
in its cache. Kept are the input and, for the ReLU, the result, which is the next layer's input.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from unisegment.ops.fused_products import conv2d, fuses


def scaled_conv2d(
    x: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c_group kh kw"],
    scale: Float[Tensor, " o"],
    shift: Float[Tensor, " o"],
    places: tuple[Any, Any, Any, Any],
    activation: str | None = None,
    residual: Float[Tensor, "b o _ _"] | None = None,
) -> Float[Tensor, "b o _ _"]:
    """Return `activation(conv(x) * scale + shift + residual)`; its gradient has no derivative of its own.

    Args:
        x: Maps.
        weight: The kernels.
        scale: Multiplies each channel; a constant without a gradient.
        shift: Added to each channel; a constant without a gradient.
        places: Stride, padding, dilation and groups, as `F.conv2d` takes them.
        activation: "relu", or None for none.
        residual: Added before the activation; None adds nothing.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        residual = None if residual is None else residual.to(dtype)
        return _ScaledConv.apply(x.to(dtype), weight, residual, scale, shift, places, activation)


class _ScaledConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        residual: Tensor | None,
        scale: Tensor,
        shift: Tensor,
        places: tuple[Any, Any, Any, Any],
        activation: str | None,
    ) -> Tensor:
        scaled, bias = _scaled(weight, scale).to(x.dtype), shift.to(x.dtype)
        if fuses(x):
            y = conv2d(x, scaled, bias, *places, None, residual)
        else:
            y = F.conv2d(x, scaled, bias, *places)
            y = y if residual is None else y.add_(residual)
        y = y if activation is None else y.relu_()  # oneDNN's own would hide what is no number behind a 0
        ctx.places = places
        ctx.save_for_backward(x, weight, scale, None if activation is None else y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, y = ctx.saved_tensors
        if y is not None:
            grad_y = torch.ops.aten.threshold_backward(grad_y, y, 0)
        needs_x, needs_weight, needs_residual, *constants = ctx.needs_input_grad
        grad_x = grad_weight = None
        if needs_x or needs_weight:
            stride, padding, dilation, groups = ctx.places
            scaled = _scaled(weight, scale).to(x.dtype)
            grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
                grad_y,
                x,
                scaled,
                None,
                stride,
                padding,
                dilation,
                False,
                [0, 0],
                groups,
                [needs_x, needs_weight, False],
            )
        if grad_weight is not None:
            grad_weight = _scaled(grad_weight, scale).to(weight.dtype)
        return grad_x, grad_weight, grad_y if needs_residual else None, *(None for _ in constants)


def _scaled(weight: Float[Tensor, "o _ _ _"], scale: Float[Tensor, " o"]) -> Float[Tensor, "o _ _ _"]:
    return weight * scale[:, None, None, None]
