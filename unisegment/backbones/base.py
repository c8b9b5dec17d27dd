# SPDX-License-Identifier: Apache-2.0
"""The contract of every backbone: an image in, feature maps of known channels and strides out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from unisegment.backbones.freezing import FrozenStages, frozen_modules
from unisegment.ops.fused_products import fuses


class Backbone(nn.Module, ABC):
    """Give feature maps from fine to coarse; a map of stride t has ceil(height / t) rows and ceil(width / t) columns.

    Subclasses have a backbone of transformers as `body` and implement `extract` and `load_pretrained`; `forward` checks
    that they keep their promise.

    Args:
        channels: Channels of each map.
        strides: Pixels of the image for each pixel of the map, ascending.
    """

    body: PreTrainedModel
    frozen_stages: FrozenStages = 0

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

    @abstractmethod
    def load_pretrained(self, name_or_path: str) -> None:
        """Start from the weights of an image classifier; a failed attempt changes nothing.

        Args:
            name_or_path: Hub id, local folder or file.

        Raises:
            FileNotFoundError: When there is no such file.
            ValueError: When there are no weights that fit.
        """

    def forward(self, pixel_values: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Compute the feature maps and check them, unless the code is being traced.

        Raises:
            ValueError: When a map has other channels or another size than promised.
        """
        if fuses(pixel_values, in_graphs=True):
            # Channels together: convolutions are faster, and a map is its tokens without a copy.
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        features = list(self.extract(pixel_values))
        if torch.compiler.is_compiling():  # to compare sizes that are unknown takes a tracer minutes, or fixes them
            return features
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

    def freeze(self, frozen_stages: FrozenStages) -> None:
        """Keep the first stages from learning, from now on.

        Their weights get no gradient, and they stay in evaluation mode whatever `train` says: statistics of batch
        norms do not move, and nothing is dropped.

        Args:
            frozen_stages: 0 nothing, 1 the stem, 2 the stem and the first stage, and so on; the stages of a plain
                vision transformer are its blocks. What turns their maps into those that are given out (norms, a
                feature pyramid) still learns. "all" leaves nothing that does.

        Raises:
            ValueError: When there are fewer stages, or when it is not known where they are.
        """
        for module in self._frozen_modules(frozen_stages):
            module.requires_grad_(False)
        self.frozen_stages = frozen_stages
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Set training or evaluation mode, as in torch; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules(self.frozen_stages):
            module.eval()
        return self

    def _frozen_modules(self, frozen_stages: FrozenStages) -> list[nn.Module]:
        return list(self.children()) if frozen_stages == "all" else frozen_modules(self.body, frozen_stages)


def pad_to_multiple(pixel_values: Float[Tensor, "b 3 h w"], multiple: int) -> Float[Tensor, "b 3 _ _"]:
    """Pad images at bottom and right, with zeros, to a size that a number divides."""
    height, width = pixel_values.shape[-2:]
    return pad(pixel_values, (0, -width % multiple, 0, -height % multiple))


def crop_to_strides(
    features: Sequence[Float[Tensor, "b _ _ _"]], size: tuple[int, ...], strides: Sequence[int]
) -> list[Float[Tensor, "b _ _ _"]]:
    """Crop maps of padded images to what `Backbone` promises.

    Args:
        features: The maps.
        size: Height and width of the images without the padding.
        strides: Stride of each map.
    """
    height, width = size
    return [
        feature[..., : -(-height // stride), : -(-width // stride)]
        for feature, stride in zip(features, strides, strict=True)
    ]
