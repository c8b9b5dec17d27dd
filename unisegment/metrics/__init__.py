# SPDX-License-Identifier: Apache-2.0
"""Score predictions against the ground truth.

Every metric has `update(predictions, targets)`, `compute()`, `merge(other)` and `reset()`; what it has seen is in its
`state`, and the states of two parts of a data set add up to the state of the whole.
"""

from unisegment.metrics.average_precision import MeanAveragePrecision
from unisegment.metrics.boundary import BoundaryIoU
from unisegment.metrics.mean_iou import MeanIoU
from unisegment.metrics.panoptic_quality import PanopticQuality, panoptic_quality_from_files

__all__ = ["BoundaryIoU", "MeanAveragePrecision", "MeanIoU", "PanopticQuality", "panoptic_quality_from_files"]
