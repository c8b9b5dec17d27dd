# SPDX-License-Identifier: Apache-2.0
"""Widen, activate, narrow: token by token, piece by piece, and with nothing kept of what is between.

The widened tokens of a training step are the largest thing that a transformer keeps. Here they exist some at a time, on
a CPU within a cache; the backward pass makes them again, which is one product beside the six that it takes anyway.

Axes: n token, c channel, w channel when widened.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.activations import ACT2FN

from unisegment.ops.fused_products import linear
from unisegment.ops.piece_size import PieceSize

PIECE_LENGTH = PieceSize(cpu=2048, accelerator=2**18)
"""Tokens that are widened at a time: some megabytes on a CPU, few and large products on an accelerator."""


def feed_forward(
    x: Float[Tensor, "*batch c"],
    weight1: Float[Tensor, "w c"],
    bias1: Float[Tensor, " w"] | None,
    weight2: Float[Tensor, "c w"],
    bias2: Float[Tensor, " c"] | None,
    activation: str,
) -> Float[Tensor, "*batch c"]:
    """Return `activation(x @ weight1.T + bias1) @ weight2.T + bias2`; its gradient has no derivative of its own.

    Args:
        x: Tokens.
        weight1: What widens them.
        bias1: Added to the widened tokens; None adds nothing.
        weight2: What narrows them.
        bias2: Added to the result; None adds nothing.
        activation: A name that transformers knows ("relu", "gelu", …).
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    values = [None if value is None else value.to(dtype) for value in (x, weight1, bias1, weight2, bias2)]
    with torch.autocast(device, enabled=False):
        return _FeedForward.apply(activation, *values)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        activation: str,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor | None,
        weight2: Tensor,
        bias2: Tensor | None,
    ) -> Tensor:
        ctx.activation = activation
        ctx.save_for_backward(x, weight1, bias1, weight2, bias2)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        for tokens, narrowed in _pieces(x, y):
            narrowed.copy_(linear(linear(tokens, weight1, bias1, activation), weight2, bias2))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors  # once: under checkpointing, each look makes them again
        weight1, bias1, weight2, _ = weights
        sums = [
            torch.zeros_like(value, dtype=torch.promote_types(x.dtype, torch.float32)) if needed else None
            for value, needed in zip(weights, ctx.needs_input_grad[2:], strict=True)
        ]
        across1, across2 = weight1.T.contiguous(), weight2.T.contiguous()
        grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        for tokens, grad_narrowed, grad_tokens in _pieces(x, grad_y, grad_x):
            grad_activated = linear(grad_narrowed, across2)
            if ctx.activation == "relu":
                activated = linear(tokens, weight1, bias1, "relu")
                grad_widened = torch.ops.aten.threshold_backward(grad_activated, activated, 0)
            else:
                widened = linear(tokens, weight1, bias1).requires_grad_()
                with torch.enable_grad():
                    activated = ACT2FN[ctx.activation](widened)
                (grad_widened,) = torch.autograd.grad(activated, widened, grad_activated)
            grad_tokens.copy_(linear(grad_widened, across1))
            _add(sums[0], sums[1], grad_widened, tokens)
            _add(sums[2], sums[3], grad_narrowed, activated.detach())
        return None, grad_x, *(None if one is None else one.to(x.dtype) for one in sums)


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same tokens of each, some at a time."""
    flat = [tensor.flatten(0, -2) for tensor in tensors]
    return zip(*(one.split(PIECE_LENGTH.on(one.device)) for one in flat), strict=True)


def _add(
    grad_weight: Tensor | None, grad_bias: Tensor | None, grad_y: Float[Tensor, "n o"], x: Float[Tensor, "n i"]
) -> None:
    """Add what some tokens give to the gradients of a linear layer, which are float32 or better."""
    if grad_weight is not None and grad_weight.dtype == x.dtype:
        grad_weight.addmm_(grad_y.T, x)
    elif grad_weight is not None:
        grad_weight += grad_y.T @ x
    if grad_bias is not None:
        grad_bias += grad_y.sum(0)
