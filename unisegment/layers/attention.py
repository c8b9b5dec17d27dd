# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention: queries, keys and values in, mixed values out."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unisegment.layers.linear import Linear
from unisegment.layers.rotary_embedding import Rotation, rotate

AttnImplementation = Literal["sdpa", "eager"]
"""How attention is computed, in transformers' words: "sdpa" by torch's fused function, "eager" step by step."""


class MultiHeadAttention(nn.Module):
    """Attend to keys with queries, in several heads.

    Args:
        dim: Channels of queries, keys, values and the result.
        num_heads: Divides `dim`.
        dropout: Share of attention weights dropped in training.
        query_bias: Whether the projection of queries has a bias.
        key_bias: The same for keys.
        value_bias: The same for values.
        out_bias: The same for the projection of the result.

    Attributes:
        implementation: "sdpa" or "eager"; both give the same, up to rounding.

    Source:
        Attention is all you need (arXiv:1706.03762), section 3.2.2.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dropout: float = 0.0,
        *,
        query_bias: bool = True,
        key_bias: bool = True,
        value_bias: bool = True,
        out_bias: bool = True,
    ) -> None:
        super().__init__()
        self.implementation: AttnImplementation = "sdpa"
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = Linear(dim, dim, bias=query_bias)
        self.k_proj = Linear(dim, dim, bias=key_bias)
        self.v_proj = Linear(dim, dim, bias=value_bias)
        self.out_proj = Linear(dim, dim, bias=out_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the original does: the three input projections as one (3 dim, dim) matrix."""
        dim = self.q_proj.in_features
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            # xavier_uniform's bound for a matrix of (3 dim, dim), not for three of (dim, dim).
            bound = math.sqrt(6 / (dim + 3 * dim))
            nn.init.uniform_(projection.weight, -bound, bound)
        nn.init.xavier_uniform_(self.out_proj.weight)
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Float[Tensor, "b q c"],
        key: Float[Tensor, "b s c"],
        value: Float[Tensor, "b s c"],
        allowed: Bool[Tensor, "b _ s"] | None = None,
        rotation: Rotation | None = None,
    ) -> Float[Tensor, "b q c"]:
        """Return one mixture of values for each query.

        Args:
            query: What asks.
            key: What is compared with the query.
            value: What is mixed.
            allowed: True where a query may look, the same for all heads. Every query must be allowed something. With
                fewer rows than there are queries it is about the first queries, and the others may look everywhere.
            rotation: Turns the last queries and keys by their places, see `unisegment.layers.rotary_embedding`.
        """
        needs_weights = self.implementation == "eager"
        return self._attend(query, key, value, allowed, rotation, needs_weights=needs_weights)[0]

    def with_weights(
        self,
        query: Float[Tensor, "b q c"],
        key: Float[Tensor, "b s c"],
        value: Float[Tensor, "b s c"],
        allowed: Bool[Tensor, "b _ s"] | None = None,
        rotation: Rotation | None = None,
    ) -> tuple[Float[Tensor, "b q c"], Float[Tensor, "b m q s"] | None]:
        """Return what `forward` does, and the share that each query took of each value; always computed by "eager"."""
        return self._attend(query, key, value, allowed, rotation, needs_weights=True)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        allowed: Tensor | None,
        rotation: Rotation | None,
        needs_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (
            rearrange(projection(x), "b s (m d) -> b m s d", m=self.num_heads)
            for projection, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        mask = None if allowed is None else allowed[:, None]  # broadcast over heads, never copied
        dropout = self.dropout if self.training else 0.0
        if needs_weights:
            mixed, weights = eager_attention(q, k, v, mask, dropout)
        else:
            mixed, weights = fused_attention(q, k, v, mask, dropout), None
        return self.out_proj(rearrange(mixed, "b m q d -> b q (m d)")), weights


def fused_attention(
    q: Float[Tensor, "b m q d"],
    k: Float[Tensor, "b m s d"],
    v: Float[Tensor, "b m s d"],
    allowed: Bool[Tensor, "b 1 _ s"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "b m q d"]:
    """Return what `eager_attention` mixes, by torch's fused function.

    Queries without a mask of their own get none: masks keep a GPU from its fastest kernel.
    """
    if allowed is None or allowed.shape[2] == q.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, allowed, dropout)
    masked, free = q.split([allowed.shape[2], q.shape[2] - allowed.shape[2]], dim=2)
    parts = ((masked, allowed), (free, None))
    return torch.cat([F.scaled_dot_product_attention(part, k, v, mask, dropout) for part, mask in parts], dim=2)


def eager_attention(
    q: Float[Tensor, "b m q d"],
    k: Float[Tensor, "b m s d"],
    v: Float[Tensor, "b m s d"],
    allowed: Bool[Tensor, "b 1 _ s"] | None = None,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "b m q d"], Float[Tensor, "b m q s"]]:
    """Compute what `F.scaled_dot_product_attention` does step by step; return it, and the weights.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        allowed: True where a query may look. Every query must be allowed something; those without a row, everything.
        dropout: Share of attention weights dropped.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if allowed is not None:
        everything = scores.shape[2] - allowed.shape[2]
        scores = scores.masked_fill(~F.pad(allowed, (0, 0, 0, everything), value=True), -math.inf)
    # In half precision the sum over thousands of pixels would be too coarse.
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(q.dtype)
    return F.dropout(weights, dropout) @ v, weights


def set_attn_implementation(module: nn.Module, implementation: AttnImplementation) -> None:
    """Let every `MultiHeadAttention` inside a module compute in the given way."""
    for child in module.modules():
        if isinstance(child, MultiHeadAttention):
            child.implementation = implementation
