# SPDX-License-Identifier: Apache-2.0
"""Linear layers with an activation between them, applied to every token on its own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unisegment.layers.linear import Linear, apply_linear
from unisegment.ops.fused_products import fuses

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
        if fuses(x) and not self.training:
            return self._in_pieces(x, residual)
        y = self.linear2(self.dropout(apply_linear(self.linear1, x, self.activation)))
        return y if residual is None else residual + self.dropout(y)

    def _in_pieces(self, x: Float[Tensor, "b s c"], residual: Float[Tensor, "b s c"] | None) -> Float[Tensor, "b s c"]:
        tokens, y = x.flatten(0, 1), torch.empty_like(x, memory_format=torch.contiguous_format)
        added = None if residual is None else residual.flatten(0, 1)
        for first in range(0, len(tokens), _PIECE_LENGTH):
            piece = slice(first, first + _PIECE_LENGTH)
            widened = apply_linear(self.linear1, tokens[piece], self.activation)
            y.view(tokens.shape)[piece] = apply_linear(
                self.linear2, widened, residual=None if added is None else added[piece]
            )
        return y


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
