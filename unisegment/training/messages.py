# SPDX-License-Identifier: Apache-2.0
"""The folder of a run and its scores in, what the user is told out."""

import shlex
import textwrap
from collections.abc import Sequence
from typing import Any

from unisegment.runs.recipe import Recipe, RunRecipe
from unisegment.runs.run_folder import RunFolder
from unisegment.runs.usage import command_usage, python_usage


def already_finished(folder: RunFolder, metrics: dict[str, Any], changes: Sequence[str] = ()) -> str:
    """Say what is there, in what its recipe differs from the one that was asked for, and what can be done with it."""
    return (
        f"Nothing to do: {folder.root} holds a finished run of {metrics['step']} steps ({_scores(metrics)}).\n"
        + "".join(f"Changed since that run: {change}\n" for change in changes)
        + f"  another run beside it       run.output_dir=ANOTHER_FOLDER\n"
        f"  go on from its weights      run.output_dir=ANOTHER_FOLDER model.pretrained={folder.model}\n"
        f"  train it for longer         run.resume={folder.root} run.overwrite=true schedule.max_steps=MORE\n"
        f"  replace it                  run.resume=never run.overwrite=true"
    )


def counted_epochs(recipe: Recipe, num_images: int, steps: int) -> str:
    """Say how many steps the epochs of a recipe are."""
    epochs = f"{recipe.schedule.epochs:g} epoch{'s' * (recipe.schedule.epochs != 1)}"
    images = f"{num_images:,} image{'s' * (num_images != 1)} in batches of {recipe.optim.batch_size}"
    return f"{epochs} of {images}: {steps:,} step{'s' * (steps != 1)}."


def number_formats(run: RunRecipe, has_tf32: bool | None) -> str:
    """Say in which numbers a run computes.

    Args:
        run: What its recipe says.
        has_tf32: Whether the device has TF32; None where it was not asked.
    """
    formats = f"steps in {'float32' if run.precision == 'no' else run.precision}, evaluation in float32"
    if not run.tf32 or has_tf32 is False:
        return formats
    where = " where the GPU has it" if has_tf32 is None else ""
    return f"{formats}; float32 is rounded to TF32 in matrix products and convolutions{where} (run.tf32)"


def result(folder: RunFolder, metrics: dict[str, Any], expected: str | None = None) -> str:
    """Say what was reached and what was expected, where it is, and what to do with it."""
    left_out, run = len(metrics["unreadable_images"]), str(folder.root)
    return (
        f"\n{metrics['step']} step{'s' * (metrics['step'] != 1)} in {metrics['train_seconds'] / 60:.1f} minutes; "
        f"on {metrics['images']} held-out images: {_scores(metrics)}.\n"
        + (f"Expected of the recipe as it stands: {expected}.\n" if expected else "")
        + (f"{left_out} images could not be read and were left out; metrics.json names them.\n" if left_out else "")
        + f"  model                 {folder.model}\n"
        f"  pictures              {folder.predictions}\n"
        f"  scores and log        {folder.metrics}, {folder.log}\n"
        f"  use it                {command_usage(run)}\n"
        f"  share it              unisegment push {shlex.quote(run)} USER/NAME\n"
        f"In Python:\n" + textwrap.indent(python_usage(run, metrics["task"]), "  ").rstrip()
    )


def _scores(metrics: dict[str, Any]) -> str:
    names = {"pq": "PQ", "pq_things": "things", "pq_stuff": "stuff", "mask_ap": "mask AP", "miou": "mIoU"}
    first = {"instance": "mask_ap", "semantic": "miou"}.get(str(metrics.get("task")), "pq")
    found = [name for name in sorted(names, key=lambda name: name != first) if metrics.get(name) is not None]
    return ", ".join(f"{names[name]} {metrics[name]:.3f}" for name in found)
