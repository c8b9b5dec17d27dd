# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention: queries, keys and values in, mixed values out."""

import math

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


class MultiHeadAttention(nn.Module):
    """Attend to keys with queries, in several heads.

    Args:
        dim: Channels of queries, keys, values and the result.
        num_heads: Divides `dim`.
        dropout: Share of attention weights dropped in training.

    Source:
        Attention is all you need (arXiv:1706.03762), section 3.2.2.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
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
        q, k, v = (
            rearrange(projection(x), "b s (m d) -> b m s d", m=self.num_heads)
            for projection, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        mask = None if allowed is None else allowed[:, None]  # broadcast over heads, never copied
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(rearrange(mixed, "b m q d -> b q (m d)"))
