# SPDX-License-Identifier: Apache-2.0
"""Vision transformers of one resolution (DINOv2, DINOv3) with a simple feature pyramid on their last map."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import AutoBackbone, PreTrainedConfig

from unisegment.backbones.base import Backbone, crop_to_strides, pad_to_multiple
from unisegment.backbones.pretrained import load_pretrained_weights
from unisegment.layers.linear import Linear
from unisegment.layers.own_layers import use_own_layers

_STRIDES = (4, 8, 16, 32)
_PATCH = 16
_CHANNELS = 256


class PlainViTBackbone(Backbone):
    """A plain vision transformer and, from its last map alone, maps of 256 channels at strides 4, 8, 16 and 32.

    A patch stands for 16 pixels, whatever the patch size: images for other patch sizes are resized first.

    Args:
        config: Configuration of the transformer, of a type in `PLAIN_VIT_TYPES`.
        strides: 4, 8, 16 and 32.

    Source:
        ViTDet (arXiv:2203.16527), simple feature pyramid.
    """

    def __init__(self, config: PreTrainedConfig, strides: Sequence[int]) -> None:
        _check(config, tuple(strides))
        super().__init__([_CHANNELS] * len(_STRIDES), strides)
        self.patch_size = config.patch_size
        self.body = AutoBackbone.from_config(config)
        use_own_layers(self.body, {nn.Linear: Linear})
        embeddings, dim = self.body.embeddings, config.hidden_size
        if getattr(embeddings, "mask_token", None) is not None:
            # Only pre-training masks patches. A parameter without a gradient would stop DistributedDataParallel at the
            # second step; the name stays, as transformers' initialisation asks for it.
            del embeddings.mask_token
            embeddings.register_buffer("mask_token", torch.zeros(1, dim), persistent=False)
        up4 = nn.Sequential(_double(dim, dim // 2), ChannelNorm(dim // 2), nn.GELU(), _double(dim // 2, dim // 4))
        self.pyramid = nn.ModuleList(
            [
                _level(up4, dim // 4),
                _level(_double(dim, dim // 2), dim // 2),
                _level(nn.Identity(), dim),
                _level(nn.MaxPool2d(2, ceil_mode=True), dim),
            ]
        )

    def extract(self, pixel_values: Float[Tensor, "b 3 h w"]) -> Sequence[Float[Tensor, "b _ _ _"]]:
        """Compute the transformer's last map, of stride 16, and the pyramid on it."""
        height, width = pixel_values.shape[-2:]
        if self.patch_size == _PATCH:
            patches = pad_to_multiple(pixel_values, _PATCH)
        else:
            grid = (-(-height // _PATCH) * self.patch_size, -(-width // _PATCH) * self.patch_size)
            patches = interpolate(pixel_values, grid, mode="bilinear", align_corners=False, antialias=False)
        (last,) = self.body(patches).feature_maps
        return crop_to_strides([level(last) for level in self.pyramid], (height, width), self.strides)

    def load_pretrained(self, name_or_path: str) -> None:
        """Load the transformer's weights, see `load_pretrained_weights`; the pyramid has no pretrained weights."""
        load_pretrained_weights(self.body, name_or_path)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of each pixel over its channels.

    Args:
        channels: Channels c.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the normalised map."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _double(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)


def _level(resize: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            resize=resize,
            conv1=nn.Conv2d(channels, _CHANNELS, kernel_size=1, bias=False),
            norm1=ChannelNorm(_CHANNELS),
            conv2=nn.Conv2d(_CHANNELS, _CHANNELS, kernel_size=3, padding=1, bias=False),
            norm2=ChannelNorm(_CHANNELS),
        )
    )


def _check(config: PreTrainedConfig, strides: tuple[int, ...]) -> None:
    """Refuse what the pyramid cannot stand on."""
    if strides != _STRIDES:
        raise ValueError(f"A plain vision transformer gives maps at strides {_STRIDES}, not at {strides}.")
    wanted = {"out_features": config.stage_names[-1:], "apply_layernorm": True, "reshape_hidden_states": True}
    for key, value in wanted.items():
        if getattr(config, key) != value:
            raise ValueError(
                f"The backbone {config.model_type!r} needs {key}={value!r} (its default), got {getattr(config, key)!r}."
            )
    if not isinstance(config.patch_size, int):
        raise ValueError(f"patch_size must be one number for both directions, got {config.patch_size!r}.")
    if config.hidden_size % 4:
        raise ValueError(f"hidden_size must be a multiple of 4 for the feature pyramid, got {config.hidden_size}.")
