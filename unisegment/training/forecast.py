# SPDX-License-Identifier: Apache-2.0
"""A recipe with its model and data in, the memory that a step of its run will need out."""

from dataclasses import replace
from typing import Any

import torch
from accelerate import PartialState

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.models.base import SegmentationProcessor
from unisegment.runs.recipe import Recipe
from unisegment.training.assembly import open_batches
from unisegment.training.memory import StepMemory, step_memory
from unisegment.training.optimization import make_optimizer

LOOKED_AT = 4
"""Steps whose images are prepared, to find the largest micro-batch."""


def forecast(
    recipe: Recipe, model: Any, processor: SegmentationProcessor, samples: AnnotatedImages
) -> tuple[StepMemory, torch.Size]:
    """Return what each process needs, and the shape of the images that it is computed for (b 3 h w).

    These are the largest of the first micro-batches.

    Args:
        recipe: Says how many micro-batches a step has.
        model: A `SegmentationModel`, whole in each process; its weights are not touched.
        processor: Prepares images for it.
        samples: Training images.
    """
    optim, schedule, state = recipe.optim, recipe.schedule, PartialState()
    steps = open_batches(recipe, samples, processor, range(min(LOOKED_AT, schedule.steps)), workers=0)
    batches = (batch for step in steps for batch in step)  # of which two are in memory
    largest = max(batches, key=lambda batch: batch.inputs["pixel_values"].numel()).inputs
    needed = step_memory(
        model,
        lambda module: make_optimizer(module, optim, schedule),
        largest,
        extra_copies=int(optim.ema_decay > 0),
        accumulates=optim.accumulation > 1,
        autocast_dtype={"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.run.precision],
        device=state.device,
    )
    if state.num_processes > 1:
        # DistributedDataParallel's, which hold all gradients once more.
        needed = replace(needed, messages=needed.gradients)
    return needed, largest["pixel_values"].shape
