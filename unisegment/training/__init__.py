# SPDX-License-Identifier: Apache-2.0
"""Training: a recipe in, a trained model with its scores, log and pictures out."""

from unisegment.training.evaluation import evaluate
from unisegment.training.loop import fit
from unisegment.training.preview import dry_run
from unisegment.training.recipe import Recipe, load_recipe

__all__ = ["Recipe", "dry_run", "evaluate", "fit", "load_recipe"]
