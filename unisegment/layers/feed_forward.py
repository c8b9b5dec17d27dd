# SPDX-License-Identifier: Apache-2.0
"""Linear layers with an activation between them, applied to every token on its own."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unisegment.layers.linear import Linear, apply_linear
from unisegment.layers.own_layers import is_untouched
from unisegment.ops.fused_products import fuses, linear, whole_in_graphs

_PIECE_LENGTH = 512
"""Tokens that are widened at a time without gradients: what is between the layers is some megabytes, in a cache."""


class FeedForward(nn.Module):
    """Widen, activate, narrow.

    Args:
        dim: Channels of input and result.
        hidden_dim: Channels in between.
        activation: A name that transformers knows ("relu", "gelu", …).
        dropout: Share of values dropped after the activation in training, and before a residual is added.
        bias: Whether the linear layers have one.
    """

    def __init__(
        self, dim: int, hidden_dim: int, activation: str = "relu", dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.activation = activation
        self.linear1 = Linear(dim, hidden_dim, bias=bias)
        self.linear2 = Linear(hidden_dim, dim, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the original does: xavier weights, biases at torch's default."""
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(
        self, x: Float[Tensor, "b s c"], residual: Float[Tensor, "b s c"] | None = None
    ) -> Float[Tensor, "b s c"]:
        """Return the transformed tokens, plus a residual."""
        layers = (self.linear1, self.linear2)
        if not self.training and fuses(x):
            widen = partial(apply_linear, self.linear1, activation=self.activation)
            return _in_pieces(x, widen, partial(apply_linear, self.linear2), residual)
        if not self.training and fuses(x, in_graphs=True) and all(is_untouched(layer, Linear) for layer in layers):
            weights = (tensor for layer in layers for tensor in (layer.weight, layer.bias))
            return _feed_forward(x, *weights, self.activation, residual)
        y = self.linear2(self.dropout(apply_linear(self.linear1, x, self.activation)))
        return y if residual is None else residual + self.dropout(y)


class GatedFeedForward(nn.Module):
    """Widen twice, multiply one by the activation of the other, narrow.

    Args:
        dim: Channels of input and result.
        hidden_dim: Channels in between.
        activation: A name that transformers knows; "silu" makes it a SwiGLU.
        bias: Whether the linear layers have one.

    Source:
        GLU variants improve Transformer (arXiv:2002.05202), section 2.
    """

    def __init__(self, dim: int, hidden_dim: int, activation: str = "silu", bias: bool = True) -> None:
        super().__init__()
        self.activation = activation
        self.gate_proj = Linear(dim, hidden_dim, bias=bias)
        self.up_proj = Linear(dim, hidden_dim, bias=bias)
        self.down_proj = Linear(hidden_dim, dim, bias=bias)

    def forward(self, x: Float[Tensor, "b s c"]) -> Float[Tensor, "b s c"]:
        """Return the transformed tokens."""
        return self.down_proj(apply_linear(self.gate_proj, x, self.activation) * self.up_proj(x))


def _in_pieces(
    x: Float[Tensor, "b s c"],
    widen: Callable[..., Tensor],
    narrow: Callable[..., Tensor],
    residual: Float[Tensor, "b s c"] | None,
) -> Float[Tensor, "b s c"]:
    tokens, y = x.flatten(0, 1), torch.empty_like(x, memory_format=torch.contiguous_format)
    added = None if residual is None else residual.flatten(0, 1)
    for first in range(0, len(tokens), _PIECE_LENGTH):
        piece = slice(first, first + _PIECE_LENGTH)
        y.view(tokens.shape)[piece] = narrow(widen(tokens[piece]), residual=None if added is None else added[piece])
    return y


@whole_in_graphs(lambda x, *_: torch.empty_like(x, memory_format=torch.contiguous_format))
def _feed_forward(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    activation: str,
    residual: Tensor | None,
) -> Tensor:
    widen = partial(linear, weight=weight1, bias=bias1, activation=activation)
    return _in_pieces(x, widen, partial(linear, weight=weight2, bias=bias2), residual)
