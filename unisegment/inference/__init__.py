# SPDX-License-Identifier: Apache-2.0
"""Inference: a checkpoint and images in; predictions, scores, pictures and files out."""

from unisegment.inference.evaluation import EvaluationCancelledError, evaluate
from unisegment.inference.export_run import export_predictions
from unisegment.inference.labels import match_data_set
from unisegment.inference.predictor import Predictor, open_predictor

__all__ = [
    "EvaluationCancelledError",
    "Predictor",
    "evaluate",
    "export_predictions",
    "match_data_set",
    "open_predictor",
]
