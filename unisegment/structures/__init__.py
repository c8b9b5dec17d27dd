# SPDX-License-Identifier: Apache-2.0
"""What goes in and comes out, apart from pixels: categories, targets and the three kinds of prediction.

All of them hold data. Drawing, saving, measuring and evaluating are functions elsewhere.
"""

from unisegment.structures.predictions import InstancePrediction, PanopticPrediction, Prediction, SemanticPrediction
from unisegment.structures.targets import Category, Sample, SegmentationTarget

__all__ = [
    "Category",
    "InstancePrediction",
    "PanopticPrediction",
    "Prediction",
    "Sample",
    "SegmentationTarget",
    "SemanticPrediction",
]
