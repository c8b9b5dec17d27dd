# SPDX-License-Identifier: Apache-2.0
"""A recipe in, what its run would do and need out, in words; nothing is written."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.models.base import SegmentationProcessor
from unisegment.runs.data_opening import with_format
from unisegment.runs.recipe import Recipe, load_recipe
from unisegment.runs.run_folder import RunFolder
from unisegment.training.assembly import build_model, check_model, data_notes, model_notes, plan_batches
from unisegment.training.checkpointing import changes_since, plan_start
from unisegment.training.forecast import LOOKED_AT, forecast
from unisegment.training.memory import StepMemory
from unisegment.training.messages import number_formats
from unisegment.training.micro_batches import chosen, divided
from unisegment.training.rehearsal_data import opened_for_a_while
from unisegment.training.state_files import read_categories
from unisegment.training.state_fit import check_fit
from unisegment.training.tracking import check_trackers


def dry_run(recipe: Recipe | str | Path, *, memory: bool = False, **overrides: Any) -> str:
    """Say what `fit` would do with the same arguments.

    Args:
        recipe: As in `fit`.
        memory: Also list what each part of the model keeps for the backward pass of a step.
        overrides: As in `fit`.

    Returns:
        The resolved recipe as YAML, and comments on the data found, the model and the memory that each process needs.

    Raises:
        RecipeError: As `fit` does.
    """
    recipe = load_recipe(recipe, overrides)
    check_trackers(recipe.run.trackers)
    start = plan_start(recipe)
    check_model(recipe)
    recipe = replace(recipe, data=with_format(recipe.data))
    most = LOOKED_AT * recipe.optim.batch_size
    with opened_for_a_while(recipe.data, most, read_categories(start.state)) as (samples, held_out, is_there):
        torch.manual_seed(recipe.run.seed)
        origin: list[str] = []
        model, processor = build_model(recipe, samples, origin.append)
        check_fit(start.state, recipe, model)
        numbers = (len(samples), len(held_out)) if is_there else (recipe.data.num_train, recipe.data.num_val)
        stuff = len(samples.stuff_label_ids)
        recipe = divided(recipe.counted(numbers[0]))
        plan_batches(recipe, samples, range(0))
        notes = [*model_notes(recipe), *data_notes(samples, held_out)]
        if recipe.optim.micro_batch == "auto":
            recipe, reason = chosen(recipe, model, processor, samples, start.state)
            notes.append(reason)
        epochs = recipe.schedule.steps * recipe.optim.batch_size / numbers[0]
        weights = [weight.numel() for weight in model.parameters()]
        learning = [weight.numel() for weight in model.parameters() if weight.requires_grad]
        if start.is_finished:
            changes = changes_since(RunFolder(Path(recipe.run.output_dir)), recipe)
            but = f" (with another recipe: {', '.join(changes)})" if changes else ""
            beginning = f"nothing is left to do: the run is finished{but}"
        else:
            beginning = "begins anew" if start.state is None else f"goes on from {start.state}"
        lines = {
            "data": f"{numbers[0]:,} images to learn from and {numbers[1]:,} to evaluate on, "
            f"{'found' if is_there else 'to be drawn'}; {len(samples.id2label)} labels, {stuff} of them stuff",
            "run": f"{beginning}; {recipe.schedule.steps:,} steps of {recipe.optim.batch_size} images, "
            f"{float(f'{epochs:.3g}'):,g} epochs, on {PartialState().num_processes} process(es)",
            "model": f"{sum(weights) / 1e6:.1f} million weights, of which {sum(learning) / 1e6:.1f} million learn",
            "start": origin[0],
            # Not asked of a GPU: that would start CUDA, and who rehearses may fork later.
            "numbers": number_formats(recipe.run, None if PartialState().device.type == "cuda" else False),
            "memory": _memory(recipe, model, processor, samples, memory),
        }
    described = [*lines.items(), *(("note", note) for note in notes)]
    return recipe.to_yaml() + "".join(f"# {name:8}{text}\n" for name, text in described)


def _memory(
    recipe: Recipe, model: Any, processor: SegmentationProcessor, samples: AnnotatedImages, with_parts: bool
) -> str:
    if os.environ.get("ACCELERATE_USE_FSDP", "false") == "true":
        return "is not computed for weights in parts"
    needed, (count, _, height, width) = forecast(recipe, model, processor, samples)
    parts = ", ".join(f"{name} {_mebibytes(size)}" for name, size in needed.parts.items() if size)
    words = (
        f"{_mebibytes(needed.peak)} MiB in each process, besides PyTorch itself: {parts} (MiB; computed for the "
        f"largest of the first micro-batches, {count} of {height}x{width})"
    )
    return words + _table(needed) if with_parts else words


def _table(needed: StepMemory) -> str:
    """Return what the peak is the sum of, line by line."""
    kept = sorted(needed.kept.items(), key=lambda part: -part[1])
    held = [(name, size) for name, size in needed.parts.items() if name not in ("gradients", "activations")]
    more = needed.peak - sum(size for _, size in [*kept, *held])
    rows = [(f"{name}, kept for the backward pass", size) for name, size in kept]
    rows += [*held, ("gradients and what is passing, at the worst moment", more), ("peak", needed.peak)]
    return "".join(f"\n#       {_mebibytes(size):>9}  {name}" for name, size in rows if size)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f}"
