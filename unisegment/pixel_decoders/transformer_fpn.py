# SPDX-License-Identifier: Apache-2.0
"""MaskFormer's stronger pixel decoder: the pixels of the coarsest map attend to each other before the feature pyramid.

Enters: feature maps, fine to coarse. Leaves: the coarsest of the refined maps, coarse to fine, and mask features at the
finest. Axes: b batch, s pixel of the coarsest map, c channel, h w its grid.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from unisegment.layers.attention import MultiHeadAttention
from unisegment.layers.feed_forward import FeedForward
from unisegment.layers.position_embedding import sine_position_embedding
from unisegment.pixel_decoders.base import PixelDecoderOutput
from unisegment.pixel_decoders.fpn import FPNPixelDecoder


class TransformerEncoderLayer(GradientCheckpointingLayer):
    """Self-attention, then a feed-forward network; the norm after each, or before it (`pre_norm`)."""

    def __init__(self, dim: int, num_heads: int, feed_forward_dim: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = MultiHeadAttention(dim, num_heads, dropout)
        self.self_attn_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, feed_forward_dim, "relu", dropout)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b s c"], pos: Float[Tensor, "s c"]) -> Float[Tensor, "b s c"]:
        """Return the refined tokens; positions steer where to look and are not part of what is found."""
        if self.pre_norm:
            x = x + self._attend(self.self_attn_norm(x), pos)
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        x = self.self_attn_norm(x + self._attend(x, pos))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))

    def _attend(self, x: Float[Tensor, "b s c"], pos: Float[Tensor, "s c"]) -> Float[Tensor, "b s c"]:
        query = x + pos
        return self.dropout(self.self_attn(query, query, x))


class TransformerFPNPixelDecoder(FPNPixelDecoder):
    """Refine the coarsest map by a transformer encoder, then go on as an FPN does.

    Args:
        in_channels: Channels of the backbone's maps, fine to coarse.
        dim: Channels inside and of the multi-scale features, a multiple of 32.
        mask_dim: Channels of the mask features.
        num_levels: How many of the coarsest refined maps are given out as multi-scale features.
        num_layers: Encoder layers.
        num_heads: Heads of each; divides `dim`.
        feed_forward_dim: Width of the feed-forward networks.
        dropout: Share of values dropped in training.
        pre_norm: Norm before attention and feed-forward instead of after, and once more after the last layer.

    Source:
        The encoder of DETR (arXiv:2005.12872), section 3.2, before the FPN in the released code of MaskFormer
        (arXiv:2107.06278) and Mask2Former.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        dim: int,
        mask_dim: int,
        num_levels: int = 3,
        num_layers: int,
        num_heads: int,
        feed_forward_dim: int,
        dropout: float = 0.0,
        pre_norm: bool = False,
    ) -> None:
        *finer, coarsest = in_channels
        super().__init__([*finer, dim], dim=dim, mask_dim=mask_dim, num_levels=num_levels)
        self.dim = dim
        self.input_proj = nn.Conv2d(coarsest, dim, 1)
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(dim, num_heads, feed_forward_dim, dropout, pre_norm) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim) if pre_norm else nn.Identity()
        self.reset_parameters()

    def forward(self, features: Sequence[Float[Tensor, "b _ _ _"]]) -> PixelDecoderOutput:
        """Return mask features and multi-scale features.

        Args:
            features: The backbone's maps, fine to coarse.
        """
        *finer, coarsest = features
        return super().forward([*finer, self._encode(coarsest)])

    def _encode(self, feature: Float[Tensor, "b _ h w"]) -> Float[Tensor, "b c h w"]:
        """Project, flatten, run the encoder layers, and make a map again."""
        height, width = feature.shape[-2:]
        x = self.input_proj(feature).flatten(2).transpose(1, 2)  # b s c
        pos = sine_position_embedding(height, width, self.dim, x.device, x.dtype)
        for layer in self.layers:
            x = layer(x, pos)
        return self.norm(x).unflatten(1, (height, width)).permute(0, 3, 1, 2)
