# SPDX-License-Identifier: Apache-2.0
"""Multi-scale deformable attention with its four projections."""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from transformers import initialization as init

from unisegment.layers.linear import Linear, apply_linear
from unisegment.ops.kernel_backend import prepare_backend
from unisegment.ops.ms_deform_attn import ms_deform_attn_fused
from unisegment.types import Size


class MSDeformAttn(nn.Module):
    """Let every query look at a few points around its reference point, on every level.

    Args:
        dim: Channels of queries, values and the result.
        num_heads: Divides `dim`.
        num_levels: Feature maps that are looked at.
        num_points: Points on each of them, for each head.
        dropout: Share of values dropped in training, before a residual is added.

    Source:
        Deformable DETR (arXiv:2010.04159), section 4.1.
    """

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.sampling_offsets = Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = Linear(dim, dim)
        self.output_proj = Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()
        prepare_backend()

    def reset_parameters(self) -> None:
        """Start with equal weights, and with point i of each head i pixels away in that head's own direction."""
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=1)
        directions = directions / directions.abs().amax(1, keepdim=True)  # onto the unit square: (1, 1), not (.7, .7)
        distances = torch.arange(1, self.num_points + 1)
        offsets = (directions[:, None, None] * distances[:, None]).expand(-1, self.num_levels, -1, -1)  # m l p 2
        init.copy_(self.sampling_offsets.bias, offsets.flatten())
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: Float[Tensor, "b q c"],
        reference_points: Float[Tensor, "b q l 2"],
        value: Float[Tensor, "b s c"],
        spatial_shapes: Sequence[Size],
        residual: Float[Tensor, "b q c"] | None = None,
    ) -> Float[Tensor, "b q c"]:
        """Return what each query finds, plus a residual.

        Args:
            query: What decides where to look, and how much each point counts.
            reference_points: Where it looks from, (x, y) in [0, 1] on each level.
            value: The feature maps, flattened and concatenated.
            spatial_shapes: (height, width) of each map.
            residual: Added to the result; None adds nothing.
        """
        split = {"m": self.num_heads, "l": self.num_levels, "p": self.num_points}
        found = ms_deform_attn_fused(
            rearrange(self.value_proj(value), "b s (m d) -> b s m d", m=self.num_heads),
            spatial_shapes,
            reference_points,
            rearrange(self.sampling_offsets(query), "b q (m l p xy) -> b q m l p xy", xy=2, **split),
            rearrange(self.attention_weights(query), "b q (m l p) -> b q m l p", **split),
        )
        if residual is not None and self.training:
            return residual + self.dropout(self.output_proj(found))
        return apply_linear(self.output_proj, found, residual=residual)
