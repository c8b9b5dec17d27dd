# SPDX-License-Identifier: Apache-2.0
"""Mask2Former's pixel decoder: the coarse maps of the backbone exchange what they know, the fine ones are added.

Enters: feature maps, fine to coarse. Leaves: the same resolutions, refined, coarse to fine, and mask features at the
finest. Axes: b batch, s pixel of all levels, c channel, l level, h w grid of a level.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from unisegment.layers.conv import ConvNorm, initialise_conv
from unisegment.layers.feed_forward import FeedForward
from unisegment.layers.ms_deform_attn import MSDeformAttn
from unisegment.layers.position_embedding import sine_position_embedding
from unisegment.ops.constants import cached_constant
from unisegment.pixel_decoders.base import PixelDecoderOutput
from unisegment.types import Size


class MSDeformAttnEncoderLayer(GradientCheckpointingLayer):
    """Deformable self-attention over all levels, then a feed-forward network, each followed by a norm."""

    def __init__(
        self, dim: int, num_heads: int, num_levels: int, num_points: int, feed_forward_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attn = MSDeformAttn(dim, num_heads, num_levels, num_points, dropout)
        self.self_attn_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, feed_forward_dim, "relu", dropout)
        self.feed_forward_norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Float[Tensor, "b s c"],
        pos: Float[Tensor, "s c"],
        reference_points: Float[Tensor, "b s l 2"],
        spatial_shapes: Sequence[Size],
    ) -> Float[Tensor, "b s c"]:
        """Return the refined tokens; positions steer where to look and are not part of what is found."""
        x = self.self_attn_norm(self.self_attn(x + pos, reference_points, x, spatial_shapes, residual=x))
        return self.feed_forward_norm(self.feed_forward(x, residual=x))


class MSDeformAttnPixelDecoder(nn.Module):
    """Refine the `num_levels` coarsest maps together by deformable attention, then add the finer ones as an FPN does.

    Args:
        in_channels: Channels of the backbone's maps, fine to coarse.
        dim: Channels inside, a multiple of 32.
        mask_dim: Channels of the mask features.
        num_levels: How many of the coarsest maps take part in attention.
        num_layers: Encoder layers.
        num_heads: Heads of each.
        num_points: Points each head looks at on each level.
        feed_forward_dim: Width of the feed-forward networks.
        dropout: Share of values dropped in training.

    Source:
        Mask2Former (arXiv:2112.01527), section 3.2.2 and its released code.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        dim: int,
        mask_dim: int,
        num_levels: int,
        num_layers: int,
        num_heads: int,
        num_points: int,
        feed_forward_dim: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.num_levels = dim, num_levels
        coarse_to_fine = list(in_channels)[::-1]
        self.input_proj = nn.ModuleList(
            ConvNorm(channels, dim, 1, bias=True, activation=False, initialisation="xavier")
            for channels in coarse_to_fine[:num_levels]
        )
        self.level_embed = nn.Parameter(torch.empty(num_levels, dim))
        self.layers = nn.ModuleList(
            MSDeformAttnEncoderLayer(dim, num_heads, num_levels, num_points, feed_forward_dim, dropout)
            for _ in range(num_layers)
        )
        self.lateral_convs = nn.ModuleList(
            ConvNorm(channels, dim, 1, bias=False, activation=False, initialisation="kaiming")
            for channels in coarse_to_fine[num_levels:]
        )
        self.output_convs = nn.ModuleList(
            ConvNorm(dim, dim, 3, bias=False, activation=True, initialisation="kaiming")
            for _ in coarse_to_fine[num_levels:]
        )
        self.mask_proj = nn.Conv2d(dim, mask_dim, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise what is the decoder's own; its layers initialise themselves."""
        nn.init.normal_(self.level_embed)
        initialise_conv(self.mask_proj, "kaiming")

    def forward(self, features: list[Float[Tensor, "b _ _ _"]]) -> PixelDecoderOutput:
        """Return mask features and multi-scale features.

        Args:
            features: The backbone's maps, fine to coarse. They are taken out of the list, so that nobody holds what
                has been used: the finest maps are the largest tensors of the model.
        """
        maps = self._attend(features)
        finest = maps[-1]
        for lateral_conv, output_conv in zip(self.lateral_convs, self.output_convs, strict=True):
            x = features.pop()
            for step in lateral_conv.children():  # step by step: whoever calls holds what is given
                x = step(x)
            x += F.interpolate(finest, x.shape[-2:], mode="bilinear")
            for step in output_conv.children():
                x = step(x)
            finest = x
        return PixelDecoderOutput(self.mask_proj(finest), tuple(maps))

    def _attend(self, features: list[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b c _ _"]]:
        """Take the coarsest maps, project, flatten, run the encoder layers, and cut into maps again."""
        shapes: list[Size] = [
            (feature.shape[-2], feature.shape[-1]) for feature in features[: -self.num_levels - 1 : -1]
        ]
        x = torch.cat([proj(features.pop()).flatten(2).transpose(1, 2) for proj in self.input_proj], dim=1)  # b s c
        pos = torch.cat(
            [
                sine_position_embedding(height, width, self.dim, x.device, x.dtype) + self.level_embed[level]
                for level, (height, width) in enumerate(shapes)
            ]
        )
        # Every token looks from its own pixel's centre, on every level; always float32, see ops/ms_deform_attn.py.
        centres = torch.cat([pixel_centres(height, width, x.device) for height, width in shapes])
        reference_points = centres[None, :, None].expand(len(x), -1, self.num_levels, -1)
        for layer in self.layers:
            x = layer(x, pos, reference_points, shapes)
        levels = x.split([height * width for height, width in shapes], dim=1)
        return [level.unflatten(1, shape).permute(0, 3, 1, 2) for level, shape in zip(levels, shapes, strict=True)]


@cached_constant
def pixel_centres(height: int, width: int, device: torch.device) -> Float[Tensor, "s 2"]:
    """Return the centre of each pixel as (x, y) in [0, 1], row-major, float32."""
    y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=2).flatten(0, 1)
