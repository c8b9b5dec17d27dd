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
        q, k, v = self._heads(self.q_proj, query), self._heads(self.k_proj, key), self._heads(self.v_proj, value)
        mask = None if allowed is None else allowed[:, None]  # broadcast over heads, never copied
        dropout = self.dropout if self.training else 0.0
        attend = F.scaled_dot_product_attention if self.implementation == "sdpa" else eager_attention
        return self.out_proj(rearrange(attend(q, k, v, mask, dropout), "b m q d -> b q (m d)"))

    def weights(self, query: Float[Tensor, "b q c"], key: Float[Tensor, "b s c"]) -> Float[Tensor, "b m q s"]:
        """Return the share that each query takes of each value, where it may look everywhere."""
        return attention_weights(self._heads(self.q_proj, query), self._heads(self.k_proj, key))

    def _heads(self, projection: nn.Module, x: Float[Tensor, "b s c"]) -> Float[Tensor, "b m s d"]:
        return rearrange(projection(x), "b s (m d) -> b m s d", m=self.num_heads)


def eager_attention(
    q: Float[Tensor, "b m q d"],
    k: Float[Tensor, "b m s d"],
    v: Float[Tensor, "b m s d"],
    allowed: Bool[Tensor, "b 1 q s"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "b m q d"]:
    """Compute what `F.scaled_dot_product_attention` does, with every step and the weights in plain sight.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        allowed: True where a query may look. Every query must be allowed something.
        dropout: Share of attention weights dropped.
    """
    return F.dropout(attention_weights(q, k, allowed), dropout) @ v


def attention_weights(
    q: Float[Tensor, "b m q d"], k: Float[Tensor, "b m s d"], allowed: Bool[Tensor, "b 1 q s"] | None = None
) -> Float[Tensor, "b m q s"]:
    """Return the share that each query takes of each value; see `eager_attention`."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    # In half precision the sum over thousands of pixels would be too coarse.
    return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(q.dtype)


def set_attn_implementation(module: nn.Module, implementation: AttnImplementation) -> None:
    """Let every `MultiHeadAttention` inside a module compute in the given way."""
    for child in module.modules():
        if isinstance(child, MultiHeadAttention):
            child.implementation = implementation
