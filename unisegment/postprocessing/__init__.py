# SPDX-License-Identifier: Apache-2.0
"""Logits of the network in, predictions on the original image out: one function for each task."""

from unisegment.postprocessing.instance import instance_predictions
from unisegment.postprocessing.panoptic import panoptic_predictions
from unisegment.postprocessing.semantic import semantic_predictions

__all__ = ["instance_predictions", "panoptic_predictions", "semantic_predictions"]
