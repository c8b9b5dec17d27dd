# SPDX-License-Identifier: Apache-2.0
"""Mask2Former as a family: what the rest of the library needs to know of this folder."""

from collections.abc import Collection
from typing import Any

from unisegment.models.base import Family, OriginalLayout, StockLayout
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.original_checkpoints import ORIGINAL_LICENSE, read_original, write_original
from unisegment.models.unisegment.stock_checkpoints import (
    config_to_stock,
    read_stock_config,
    read_stock_weights,
    stock_twin,
)


def _describe(config: Any) -> list[str]:
    return [f"a {config.backbone_config.model_type} backbone", f"{config.num_queries} queries"]


def _owns(names: Collection[str]) -> bool:
    return any("transformer_cross_attention_layers." in name for name in names)


FAMILY = Family(
    name="Mask2Former",
    source="https://arxiv.org/abs/2112.01527",
    config=UniSegmentConfig,
    model_class="unisegment.models.unisegment.modeling_unisegment:UniSegmentForUniversalSegmentation",
    processor_class="unisegment.models.unisegment.image_processing_unisegment:UniSegmentImageProcessor",
    describe=_describe,
    stock=[StockLayout("mask2former", read_stock_config, read_stock_weights, config_to_stock, stock_twin)],
    original=OriginalLayout(_owns, read_original, write_original, ORIGINAL_LICENSE),
)
