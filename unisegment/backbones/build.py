# SPDX-License-Identifier: Apache-2.0
"""A config of transformers in, the backbone that suits it out."""

from collections.abc import Sequence

from transformers import PreTrainedConfig

from unisegment.backbones.base import Backbone
from unisegment.backbones.config_files import PLAIN_VIT_TYPES
from unisegment.backbones.plain_vit import PlainViTBackbone
from unisegment.backbones.transformers_backbone import TransformersBackbone


def build_backbone(config: PreTrainedConfig, strides: Sequence[int], freeze_norm: bool) -> Backbone:
    """Return a backbone with fresh weights.

    Args:
        config: Configuration of a transformers backbone.
        strides: Stride of each map, ascending.
        freeze_norm: Turn batch normalisation into constants; without effect where there is none.

    Raises:
        ValueError: When config and strides do not fit together, or transformers cannot build what the config says.
    """
    try:
        if config.model_type in PLAIN_VIT_TYPES:
            return PlainViTBackbone(config, strides)
        return TransformersBackbone(config, strides, freeze_norm)
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # transformers looks at few values of a config before it computes with them
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(
            f"backbone_config: transformers cannot build this {config.model_type!r} ({reason})."
        ) from error
