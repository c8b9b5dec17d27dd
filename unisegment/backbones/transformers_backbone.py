# SPDX-License-Identifier: Apache-2.0
"""Any backbone of transformers (ResNet, Swin, ConvNeXt, …) behind our contract."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoBackbone, PreTrainedConfig

from unisegment.backbones import resnet_layers, swin_layers
from unisegment.backbones.base import Backbone, crop_to_strides, pad_to_multiple
from unisegment.backbones.pretrained import load_pretrained_weights
from unisegment.layers.linear import Linear
from unisegment.layers.norm import freeze_batch_norm
from unisegment.layers.own_layers import use_own_layers

# Their convolutions drop rows and columns that fill no whole patch; all others pad by themselves.
_CROPPING_TYPES = frozenset(("convnext", "convnextv2", "dinov3_convnext"))


class TransformersBackbone(Backbone):
    """A backbone made by transformers' AutoBackbone.

    Args:
        config: Configuration of the backbone; `out_features` names the stages that are used.
        strides: Stride of each of these stages, ascending.
        freeze_norm: Turn batch normalisation into constants.
    """

    def __init__(self, config: PreTrainedConfig, strides: Sequence[int], freeze_norm: bool) -> None:
        if config._attn_implementation == "sdpa" and not MODEL_FOR_BACKBONE_MAPPING[type(config)]._supports_sdpa:
            config._attn_implementation = "eager"  # chosen for the whole model, but a ResNet has none, and would refuse
        body = AutoBackbone.from_config(config)
        super().__init__(body.channels, strides)
        self.body = body
        self.crops = config.model_type in _CROPPING_TYPES
        final_norm = getattr(getattr(body, "swin", None), "layernorm", None)
        if final_norm is not None:
            # SwinBackbone makes, but never uses, the classifier's norm. Without a gradient it would stop
            # DistributedDataParallel at the second step.
            body.swin.layernorm = nn.Identity()
        if freeze_norm:
            freeze_batch_norm(body)
        use_own_layers(body, {nn.Linear: Linear, **resnet_layers.OWN_LAYERS, **swin_layers.OWN_LAYERS})

    def extract(self, pixel_values: Float[Tensor, "b 3 h w"]) -> Sequence[Float[Tensor, "b _ _ _"]]:
        """Compute the feature maps of the stages in `out_features`."""
        if not self.crops:
            return self.body(pixel_values).feature_maps
        features = self.body(pad_to_multiple(pixel_values, self.strides[-1])).feature_maps
        return crop_to_strides(features, pixel_values.shape[-2:], self.strides)

    def load_pretrained(self, name_or_path: str) -> None:
        """Load the weights of an image classifier or backbone, see `load_pretrained_weights`."""
        load_pretrained_weights(self.body, name_or_path)
