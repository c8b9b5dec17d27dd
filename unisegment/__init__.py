# SPDX-License-Identifier: Apache-2.0
"""unisegment: one checkpoint for semantic, instance and panoptic segmentation."""

import unisegment.models.auto  # noqa: F401  # makes transformers' Auto classes know ours
from unisegment.data.export.saving import save
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget, SemanticPrediction
from unisegment.visualization import draw

__all__ = [
    "InstancePrediction",
    "PanopticPrediction",
    "SegmentationTarget",
    "SemanticPrediction",
    "UniSegmentConfig",
    "UniSegmentForUniversalSegmentation",
    "UniSegmentImageProcessor",
    "draw",
    "save",
]
