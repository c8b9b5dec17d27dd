# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention: queries, keys and values in, mixed values out."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

AttnImplementation = Literal["sdpa", "eager"]
"""How attention is computed, in transformers' words: "sdpa" by torch's fused function, "eager" step by step."""


class MultiHeadAttention(nn.Module):
    """Attend to keys with queries, in several heads.

    Args:
        dim: Channels of queries, keys, values and the result.
        num_heads: Divides `dim`.
        dropout: Share of attention weights dropped in training.

    Attributes:
        implementation: "sdpa" or "eager"; both give the same, up to rounding.

    Source:
        Attention is all you need (arXiv:1706.03762), section 3.2.2.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.implementation: AttnImplementation = "sdpa"
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the original does: the three input projections as one (3 dim, dim) matrix."""
        dim = self.q_proj.in_features
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            # xavier_uniform's bound for a matrix of (3 dim, dim), not for three of (dim, dim).
            bound = math.sqrt(6 / (dim + 3 * dim))
            nn.init.uniform_(projection.weight, -bound, bound)
            nn.init.zeros_(projection.bias)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Float[Tensor, "b q c"],
        key: Float[Tensor, "b s c"],
        value: Float[Tensor, "b s c"],
        allowed: Bool[Tensor, "b q s"] | None = None,
    ) -> Float[Tensor, "b q c"]:
        """Return one mixture of values for each query.

        Args:
            query: What asks.
            key: What is compared with the query.
            value: What is mixed.
            allowed: True where a query may look, the same for all heads. Every query must be allowed something.
        """
        return self._attend(query, key, value, allowed, needs_weights=self.implementation == "eager")[0]

    def with_weights(
        self, query: Float[Tensor, "b q c"], key: Float[Tensor, "b s c"], value: Float[Tensor, "b s c"]
    ) -> tuple[Float[Tensor, "b q c"], Float[Tensor, "b m q s"] | None]:
        """Return what `forward` does, and the share that each query took of each value; always computed by "eager"."""
        return self._attend(query, key, value, None, needs_weights=True)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, needs_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (
            rearrange(projection(x), "b s (m d) -> b m s d", m=self.num_heads)
            for projection, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        mask = None if allowed is None else allowed[:, None]  # broadcast over heads, never copied
        dropout = self.dropout if self.training else 0.0
        if needs_weights:
            mixed, weights = eager_attention(q, k, v, mask, dropout)
        else:
            mixed, weights = F.scaled_dot_product_attention(q, k, v, mask, dropout), None
        return self.out_proj(rearrange(mixed, "b m q d -> b q (m d)")), weights


def eager_attention(
    q: Float[Tensor, "b m q d"],
    k: Float[Tensor, "b m s d"],
    v: Float[Tensor, "b m s d"],
    allowed: Bool[Tensor, "b 1 q s"] | None = None,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "b m q d"], Float[Tensor, "b m q s"]]:
    """Compute what `F.scaled_dot_product_attention` does step by step; return it, and the weights.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        allowed: True where a query may look. Every query must be allowed something.
        dropout: Share of attention weights dropped.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    # In half precision the sum over thousands of pixels would be too coarse.
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(q.dtype)
    return F.dropout(weights, dropout) @ v, weights


def set_attn_implementation(module: nn.Module, implementation: AttnImplementation) -> None:
    """Let every `MultiHeadAttention` inside a module compute in the given way."""
    for child in module.modules():
        if isinstance(child, MultiHeadAttention):
            child.implementation = implementation
