# SPDX-License-Identifier: Apache-2.0
"""Training: a recipe in, a trained model with its scores, log and pictures out."""

from unisegment.files import WriteError
from unisegment.runs.recipe import Recipe, load_recipe
from unisegment.runs.settings import RecipeError
from unisegment.training.loop import TrainingInterruptedError, fit
from unisegment.training.lr_finder import find_lr
from unisegment.training.own_data import Fitted, data_recipe, fit_data
from unisegment.training.preview import dry_run
from unisegment.training.step import NonFiniteLossError

__all__ = [
    "Fitted",
    "NonFiniteLossError",
    "Recipe",
    "RecipeError",
    "TrainingInterruptedError",
    "WriteError",
    "data_recipe",
    "dry_run",
    "find_lr",
    "fit",
    "fit_data",
    "load_recipe",
]
