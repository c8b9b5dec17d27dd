# SPDX-License-Identifier: Apache-2.0
"""Linear layers with an activation between them, applied to every token on its own."""

from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN


class FeedForward(nn.Module):
    """Widen, activate, narrow.

    Args:
        dim: Channels of input and result.
        hidden_dim: Channels in between.
        activation: A name that transformers knows ("relu", "gelu", …).
        dropout: Share of values dropped after the activation in training.
        bias: Whether the linear layers have one.
    """

    def __init__(
        self, dim: int, hidden_dim: int, activation: str = "relu", dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim, bias=bias)
        self.linear2 = nn.Linear(hidden_dim, dim, bias=bias)
        self.activation = ACT2FN[activation]
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the original does: xavier weights, biases at torch's default."""
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, x: Float[Tensor, "b s c"]) -> Float[Tensor, "b s c"]:
        """Return the transformed tokens."""
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


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
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=bias)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=bias)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=bias)
        self.activation = ACT2FN[activation]

    def forward(self, x: Float[Tensor, "b s c"]) -> Float[Tensor, "b s c"]:
        """Return the transformed tokens."""
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
