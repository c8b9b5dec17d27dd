# SPDX-License-Identifier: Apache-2.0
"""Inference: a checkpoint and images in; predictions, scores, pictures and files out."""

from unisegment.inference.evaluation import EvaluationCancelledError, evaluate
from unisegment.inference.predictor import Predictor

__all__ = ["EvaluationCancelledError", "Predictor", "evaluate"]
