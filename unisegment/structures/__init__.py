# SPDX-License-Identifier: Apache-2.0
"""What goes in and comes out, apart from pixels: categories, targets and the three kinds of prediction.

All of them hold data. Drawing, saving, measuring and evaluating are functions elsewhere.
"""

from unisegment.structures.predictions import (
    TASKS,
    InstancePrediction,
    PanopticPrediction,
    Prediction,
    SemanticPrediction,
)
from unisegment.structures.targets import Category, NamedImage, Sample, SegmentationTarget

__all__ = [
    "TASKS",
    "Category",
    "InstancePrediction",
    "NamedImage",
    "PanopticPrediction",
    "Prediction",
    "Sample",
    "SegmentationTarget",
    "SemanticPrediction",
]
