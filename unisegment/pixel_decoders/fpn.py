# SPDX-License-Identifier: Apache-2.0
"""A feature pyramid as pixel decoder: every map of the backbone gets what the next coarser one knows.

Enters: feature maps, fine to coarse. Leaves: the coarsest of the refined maps, coarse to fine, and mask features at the
finest. Axes: b batch, c channel.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unisegment.layers.conv import ConvNorm, initialise_conv
from unisegment.pixel_decoders.base import PixelDecoderOutput


class FPNPixelDecoder(nn.Module):
    """Add to each map the coarser one, enlarged, and smooth the sum by a convolution.

    Args:
        in_channels: Channels of the backbone's maps, fine to coarse.
        dim: Channels inside and of the multi-scale features, a multiple of 32.
        mask_dim: Channels of the mask features.
        num_levels: How many of the coarsest refined maps are given out as multi-scale features.

    Source:
        Feature Pyramid Networks (arXiv:1612.03144), section 3, as MaskFormer (arXiv:2107.06278) and the released code
        of Mask2Former use it.
    """

    def __init__(self, in_channels: Sequence[int], *, dim: int, mask_dim: int, num_levels: int = 3) -> None:
        super().__init__()
        self.num_levels = num_levels
        *finer, coarsest = in_channels
        self.lateral_convs = nn.ModuleList(
            ConvNorm(channels, dim, 1, bias=False, activation=False, initialisation="kaiming")
            for channels in reversed(finer)
        )
        self.output_convs = nn.ModuleList(
            ConvNorm(channels, dim, 3, bias=False, activation=True, initialisation="kaiming")
            for channels in [coarsest] + [dim] * len(finer)
        )
        self.mask_proj = nn.Conv2d(dim, mask_dim, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the plain convolutions, also those of a subclass; the other layers initialise themselves."""
        for child in self.children():
            if isinstance(child, nn.Conv2d):
                initialise_conv(child, "kaiming")

    def forward(self, features: Sequence[Float[Tensor, "b _ _ _"]]) -> PixelDecoderOutput:
        """Return mask features and multi-scale features.

        Args:
            features: The backbone's maps, fine to coarse.
        """
        *finer, coarsest = features
        maps = [self.output_convs[0](coarsest)]
        for feature, lateral_conv, output_conv in zip(
            reversed(finer), self.lateral_convs, self.output_convs[1:], strict=True
        ):
            lateral = lateral_conv(feature)
            maps.append(output_conv(lateral + F.interpolate(maps[-1], lateral.shape[-2:], mode="nearest")))
        return PixelDecoderOutput(self.mask_proj(maps[-1]), tuple(maps[: self.num_levels]))
