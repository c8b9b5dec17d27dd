# SPDX-License-Identifier: Apache-2.0
"""A recipe in, how its loss takes ever higher learning rates out, in words; nothing is written and nothing is kept."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.models.base import SegmentationProcessor
from unisegment.ops.tf32 import use_tf32
from unisegment.runs.data_opening import with_format
from unisegment.runs.recipe import Recipe, load_recipe
from unisegment.training.accelerator import make_accelerator
from unisegment.training.assembly import build_model, check_model, open_batches, plan_batches
from unisegment.training.batches import seed_step
from unisegment.training.micro_batches import chosen, divided
from unisegment.training.optimization import make_optimizer
from unisegment.training.rehearsal_data import opened_for_a_while
from unisegment.training.step import LossOnly, NonFiniteLossError, take_step

_LOWEST, _HIGHEST, _STEPS = 1e-6, 1.0, 100
_KEPT = 0.85
"""Share of the mean that a step keeps: a third of a power of ten in the rate, with so many steps."""
_DIVERGED = 1.5
"""Times the lowest loss so far, at which a rate is too high for certain."""
_ROWS = 12


class Point(NamedTuple):
    """A step of the ramp: its rate and the mean of the losses so far, in which the last ones count most."""

    rate: float
    loss: float


def find_lr(recipe: Recipe | str | Path, **overrides: Any) -> str:
    """Let the learning rate rise step by step from 1e-6 to 1, and say what becomes of the loss.

    Model, data, batches and precision are those of the recipe, the schedule is not. It ends where the loss rises to one
    and a half times its lowest.

    Returns:
        A table and a suggestion for `optim.lr`.

    Raises:
        RecipeError: As `fit` does.

    Source:
        Smith (arXiv:1506.01186) for the ramp; fastai's `minimum` (Apache-2.0) for the suggestion.
    """
    recipe = load_recipe(recipe, overrides)
    check_model(recipe)
    accelerator = make_accelerator(recipe.run)
    recipe = divided(replace(recipe, data=with_format(recipe.data), optim=replace(recipe.optim, lr=1.0)))
    most = _STEPS * recipe.optim.batch_size
    with use_tf32(recipe.run.tf32), opened_for_a_while(recipe.data, most) as (samples, *_):
        plan_batches(recipe, samples, range(0))
        torch.manual_seed(recipe.run.seed)
        model, processor = build_model(recipe, samples)
        if recipe.optim.micro_batch == "auto":
            recipe, _ = chosen(recipe, model, processor, samples, None)
        return describe([*_ramp(recipe, accelerator, model, processor, samples)], recipe.optim.batch_size)


def _ramp(
    recipe: Recipe, accelerator: Accelerator, model: Any, processor: SegmentationProcessor, samples: AnnotatedImages
) -> Iterator[Point]:
    """Take steps at rates of equal ratio, until they are all taken or the loss is far above its lowest."""
    losses, optimizer = accelerator.prepare(LossOnly(model), make_optimizer(model, recipe.optim, recipe.schedule))
    shares = [group["lr"] for group in optimizer.param_groups]
    model.train()
    model.at_step(0, _STEPS)
    total, lowest = 0.0, float("inf")
    for step, batch in enumerate(open_batches(recipe, samples, processor, range(_STEPS), recipe.data.workers)):
        rate = _LOWEST * (_HIGHEST / _LOWEST) ** (step / (_STEPS - 1))
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = rate * share
        seed_step(recipe.run.seed, step, accelerator.process_index)
        targets = [part.inputs["mask_labels"] for part in batch]
        denominators = model.loss_denominators(targets, accelerator.reduce, accelerator.num_processes)
        try:
            values = take_step(accelerator, losses, optimizer, batch, denominators, recipe.optim.clip_norm)
        except NonFiniteLossError:
            yield Point(rate, float("inf"))
            return
        total = _KEPT * total + (1 - _KEPT) * values["loss"]
        point = Point(rate, total / (1 - _KEPT ** (step + 1)))
        yield point
        lowest = min(lowest, point.loss)
        if point.loss > _DIVERGED * lowest:
            return


def describe(points: Sequence[Point], batch_size: int) -> str:
    """Return a table of some of the points, the last one included, and what it suggests.

    The suggestion is a tenth of the rate at which the loss was lowest, if it ever fell from the first to there.
    """
    best = min(points, key=lambda point: point.loss)
    shown = {round(row * (len(points) - 1) / (_ROWS - 1)) for row in range(_ROWS)} | {points.index(best)}
    lines = [f"{len(points)} steps of {batch_size} images, of which nothing is kept.", "", "optim.lr     loss"]
    lines += [
        f"{points[place].rate:8.1e} {points[place].loss:8.2f}" + ("  lowest" if points[place] is best else "")
        for place in sorted(shown)
    ]
    has_diverged = points[-1].loss > _DIVERGED * best.loss
    end = f"at {points[-1].rate:.1e} it diverges" if has_diverged else "no rate was too high"
    if best is points[0]:
        return "\n".join([*lines, "", f"No suggestion: the loss never fell, and {end}."])
    return "\n".join(
        [*lines, "", f"Suggestion: optim.lr={best.rate / 10:.1e}, a tenth of where the loss was lowest; {end}."]
    )
