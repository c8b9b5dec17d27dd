# SPDX-License-Identifier: Apache-2.0
"""The contract of every backbone: an image in, feature maps of known channels and strides out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Give feature maps from fine to coarse; a map of stride t has ceil(height / t) rows and ceil(width / t) columns.

    Subclasses implement `extract`; `forward` checks that they keep their promise.

    Args:
        channels: Channels of each map.
        strides: Pixels of the image for each pixel of the map, ascending.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.strides = tuple(strides)
        if len(self.channels) != len(self.strides) or list(self.strides) != sorted(set(self.strides)):
            raise ValueError(
                f"A backbone must give one map for each stride, strides ascending; this one has channels "
                f"{self.channels} for strides {self.strides}. Check `out_features` of backbone_config and "
                f"`feature_strides`."
            )

    @abstractmethod
    def extract(self, pixel_values: Float[Tensor, "b 3 h w"]) -> Sequence[Float[Tensor, "b _ _ _"]]:
        """Compute the feature maps."""

    def forward(self, pixel_values: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Compute the feature maps and check them.

        Raises:
            ValueError: When a map has other channels or another size than promised.
        """
        features = list(self.extract(pixel_values))
        height, width = pixel_values.shape[-2:]
        expected = [
            (channels, -(-height // stride), -(-width // stride))
            for channels, stride in zip(self.channels, self.strides, strict=True)
        ]
        found = [tuple(feature.shape[1:]) for feature in features]
        if found != expected:
            raise ValueError(
                f"{type(self).__name__} gave maps (channels, height, width) {found} for an image of {height}x{width}; "
                f"channels {self.channels} at strides {self.strides} promise {expected}."
            )
        return features
