# SPDX-License-Identifier: Apache-2.0
"""unisegment: one checkpoint for semantic, instance and panoptic segmentation.

A name is imported when it is first used, so that `import unisegment` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import unisegment.models.auto  # noqa: F401  # makes transformers' Auto classes know ours

if TYPE_CHECKING:
    from unisegment.data.export.saving import save
    from unisegment.data.formats import open_data_set
    from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
    from unisegment.models.eomt.image_processing_eomt import UniSegmentEomtImageProcessor
    from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation
    from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
    from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
    from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
    from unisegment.segmenter import Segmenter
    from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget, SemanticPrediction
    from unisegment.visualization import draw

__all__ = [
    "InstancePrediction",
    "PanopticPrediction",
    "SegmentationTarget",
    "Segmenter",
    "SemanticPrediction",
    "UniSegmentConfig",
    "UniSegmentEomtConfig",
    "UniSegmentEomtForUniversalSegmentation",
    "UniSegmentEomtImageProcessor",
    "UniSegmentForUniversalSegmentation",
    "UniSegmentImageProcessor",
    "draw",
    "open_data_set",
    "save",
]

_MODULES = {
    "Segmenter": "segmenter",
    "UniSegmentConfig": "models.unisegment.configuration_unisegment",
    "UniSegmentEomtConfig": "models.eomt.configuration_eomt",
    "UniSegmentEomtForUniversalSegmentation": "models.eomt.modeling_eomt",
    "UniSegmentEomtImageProcessor": "models.eomt.image_processing_eomt",
    "UniSegmentForUniversalSegmentation": "models.unisegment.modeling_unisegment",
    "UniSegmentImageProcessor": "models.unisegment.image_processing_unisegment",
    "draw": "visualization",
    "open_data_set": "data.formats",
    "save": "data.export.saving",
}
"""Where a name is that is not in `structures`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'structures')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
