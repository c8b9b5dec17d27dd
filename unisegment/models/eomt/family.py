# SPDX-License-Identifier: Apache-2.0
"""EoMT as a family: what the rest of the library needs to know of this folder."""

from typing import Any

from unisegment.models.base import Family, OriginalLayout, StockLayout
from unisegment.models.eomt.checkpoint_conversion import owns
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.image_processor_settings import EomtImageProcessorSettings
from unisegment.models.eomt.original_checkpoints import ORIGINAL_LICENSE, read_original, write_original
from unisegment.models.eomt.stock_checkpoints import (
    config_to_eomt,
    config_to_eomt_dinov3,
    eomt_dinov3_twin,
    eomt_twin,
    read_eomt_config,
    read_eomt_dinov3_config,
    read_stock_weights,
)


def _describe(config: Any) -> list[str]:
    layers, channels = config.num_hidden_layers, config.hidden_size
    kind = "DINOv3" if config.position_encoding == "rope" else "DINOv2"
    return [f"a {kind} vision transformer of {layers} layers and {channels} channels", f"{config.num_queries} queries"]


FAMILY = Family(
    name="EoMT",
    source="https://arxiv.org/abs/2503.19108",
    config=UniSegmentEomtConfig,
    model_class="unisegment.models.eomt.modeling_eomt:UniSegmentEomtForUniversalSegmentation",
    processor_class="unisegment.models.eomt.image_processing_eomt:UniSegmentEomtImageProcessor",
    describe=_describe,
    stock=[
        StockLayout("eomt", read_eomt_config, read_stock_weights, config_to_eomt, eomt_twin),
        StockLayout(
            "eomt_dinov3", read_eomt_dinov3_config, read_stock_weights, config_to_eomt_dinov3, eomt_dinov3_twin
        ),
    ],
    original=OriginalLayout(owns, read_original, write_original, ORIGINAL_LICENSE),
    settings=EomtImageProcessorSettings,
)
