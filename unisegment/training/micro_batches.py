# SPDX-License-Identifier: Apache-2.0
"""A recipe that gives the size of micro-batches, or leaves it to the memory there is, in; their number out."""

import os
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from accelerate import PartialState

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.models.base import SegmentationProcessor
from unisegment.runs.free_memory import free_memory
from unisegment.runs.processes import decide_once
from unisegment.runs.recipe import Recipe
from unisegment.runs.recipe_files import read_mapping
from unisegment.runs.run_folder import RunFolder
from unisegment.runs.settings import RecipeError
from unisegment.training.forecast import forecast
from unisegment.training.memory import StepMemory

_FILLED = 0.85
"""Share of the free memory that a step may take by the forecast; gaps between tensors and PyTorch itself need some."""


def divided(recipe: Recipe) -> Recipe:
    """Return the same recipe with `accumulation` for a number in `optim.micro_batch`; `auto` is left to `chosen`.

    Raises:
        RecipeError: When the batch does not consist of such micro-batches.
    """
    size, whole = recipe.optim.micro_batch, recipe.optim.batch_size
    if not isinstance(size, int):
        return recipe
    number = PartialState().num_processes
    if whole % (size * number):
        raise RecipeError(
            f"optim.batch_size={whole} cannot be divided into micro-batches of optim.micro_batch={size} on each of "
            f"{number} processes: make it a multiple of {size * number}."
        )
    return _with(recipe, whole // (size * number))


def chosen(
    recipe: Recipe, model: Any, processor: SegmentationProcessor, samples: AnnotatedImages, state: Path | None
) -> tuple[Recipe, str]:
    """Return the same recipe with `accumulation` for `optim.micro_batch=auto`, and why it is that, in words.

    The batch is halved until the forecast of a step fits into the memory that is free; see `forecast` for its limits.
    All processes do as the first one finds.

    Args:
        recipe: As `auto` is in it.
        model: What is trained, not yet on a device.
        processor: Prepares images for it.
        samples: Training images.
        state: What training goes on from: it keeps to the micro-batches of its run, which decide some random numbers.

    Raises:
        RecipeError: When even the smallest part does not fit, or no forecast can be made.
    """
    known = decide_once(lambda: _of_run(recipe, state))
    if known is not None:
        return _with(recipe, known), f"optim.micro_batch=auto: optim.accumulation={known}, as the run began."
    accumulation, reason = decide_once(lambda: _choose(recipe, model, processor, samples))
    return _with(recipe, accumulation), reason


def _of_run(recipe: Recipe, state: Path | None) -> int | None:
    file = None if state is None else RunFolder(state.parent.parent).recipe
    optim = read_mapping(file).get("optim", {}) if file is not None and file.is_file() else {}
    known = optim.get("accumulation")
    is_same = optim.get("batch_size") == recipe.optim.batch_size
    return known if is_same and known in _splits(recipe) else None


def _choose(recipe: Recipe, model: Any, processor: SegmentationProcessor, samples: AnnotatedImages) -> tuple[int, str]:
    for variable in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        if os.environ.get(variable, "false") == "true":
            raise RecipeError(
                "optim.micro_batch=auto: memory is not forecast for weights in parts (FSDP, DeepSpeed). Set a number."
            )
    room = _FILLED * free_memory(PartialState().device)
    there = f"{_mebibytes(room)} are there in each process ({_FILLED:.0%} of what is free)"
    splits = _splits(recipe)
    least, found = 1.0, []
    for accumulation in splits:
        if accumulation < least:
            continue
        needed, (images, *_) = forecast(_with(recipe, accumulation), model, processor, samples)
        found.append(f"micro-batches of {images} need {_mebibytes(needed.peak)}")
        if needed.peak <= room:
            why = "; ".join([f"{found[-1]} by the forecast, and {there}", *found[-2:-1]])
            return accumulation, f"optim.micro_batch=auto: optim.accumulation={accumulation}: {why}."
        least = _least_split(accumulation, needed, room, splits)
    raise RecipeError(
        f"optim.micro_batch=auto: {found[-1]} by the forecast, but {there}. Set model.gradient_checkpointing=true, "
        f"train on smaller images, or try it all the same: optim.micro_batch={images}."
    )


def _least_split(accumulation: int, needed: StepMemory, room: float, splits: list[int]) -> float:
    """Return below which split none fits: what grows with the images grows at most in proportion to them."""
    of_images = needed.inputs + needed.activations
    left = room - needed.peak + of_images
    return splits[-1] if left <= 0 else min(accumulation * of_images / left, splits[-1])


def _splits(recipe: Recipe) -> list[int]:
    """Return the powers of two that the batch can be divided by, on all processes alike."""
    each = recipe.optim.batch_size // PartialState().num_processes
    return [*takewhile(lambda parts: each % parts == 0, (2**power for power in count()))]


def _with(recipe: Recipe, accumulation: int) -> Recipe:
    return replace(recipe, optim=replace(recipe.optim, accumulation=accumulation, micro_batch=None))


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
