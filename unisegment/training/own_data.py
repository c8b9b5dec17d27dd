# SPDX-License-Identifier: Apache-2.0
"""A data set in; the recipe that suits it and this machine, and a training run by it, out."""

import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.formats import FORMATS
from unisegment.runs.data_opening import data_named, open_split, with_format
from unisegment.runs.processes import num_threads
from unisegment.runs.recipe import Recipe, load_recipe
from unisegment.runs.schedule_recipe import ScheduleRecipe
from unisegment.training.assembly import check_model
from unisegment.training.loop import fit

_LOOKED_AT = 16
"""Images whose sizes are looked at."""
_ENOUGH_GIBIBYTES = 11
"""Memory of a GPU that the recipes for own data need no micro-batches for; those of 12 GB have a little less."""
_STRIDE = 32
_METRICS = {"panoptic": "pq", "instance": "mask_ap", "semantic": "miou"}


class Fitted(NamedTuple):
    """What a run has left behind.

    Args:
        folder: Everything that it wrote; the model is in `checkpoint/`.
        metrics: What `metrics.json` says, as `fit` returns it.
    """

    folder: Path
    metrics: dict[str, Any]


def fit_data(data: str | os.PathLike[str], **settings: Any) -> Fitted:
    """Train on a data set, without a recipe; called again after an interruption, it goes on.

    Args:
        data: As in `data_recipe`.
        settings: Its keywords: `start`, `epochs`, `output_dir`, `format`, and keys of a recipe.

    Raises:
        RecipeError: As `data_recipe` does, and as `fit` does.
    """
    recipe = data_recipe(data, **settings)
    return Fitted(Path(recipe.run.output_dir), fit(recipe))


def data_recipe(
    data: str | os.PathLike[str],
    *,
    start: str | os.PathLike[str] | None = None,
    epochs: float | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    format: str | None = None,
    **overrides: Any,
) -> Recipe:
    """Return the recipe for a data set: one of those for own data, with what its images and this machine ask for.

    It is `own_data_semantic`, `own_data_instance` or `own_data_panoptic`, by the format; where that has several tasks,
    labels that are all things or all stuff decide. Without a start it is `own_data_scratch`. Images are enlarged twice
    at most, and not at all without a start. Few images are seen more often.

    Args:
        data: Folder of the data set, with a split `train` to learn from and a split `val` to evaluate on; or what else
            `data.root` of a recipe takes.
        start: Checkpoint to start from, a folder, file or Hub id, as `model.pretrained`. Labels of equal name keep
            their weights. None starts from random weights, with a small model.
        epochs: How often each training image is seen; None takes the steps of the recipe, or 50 epochs (100 without a
            start), whichever is more.
        output_dir: Folder for the run; None is `runs/` and the name of the data set.
        format: As `data.format` of a recipe; None sees it by the layout of the folder.
        overrides: Values by dotted key of a recipe: `**{"optim.lr": 1e-4}`. They go before everything else.

    Raises:
        RecipeError: When the data cannot be opened, or a key or value is wrong.
    """
    given: dict[str, Any] = {"data.root": os.fspath(data), "data.format": format or "auto"}
    given["model.pretrained"] = None if start is None else os.fspath(start)
    given["run.output_dir"] = f"runs/{_name(os.fspath(data))}" if output_dir is None else os.fspath(output_dir)
    given |= {} if epochs is None else {"schedule.epochs": epochs}
    given |= overrides
    recipe = load_recipe("own_data_scratch", given)
    check_model(recipe)
    opened = with_format(recipe.data)
    given["data.format"] = opened.format
    with data_named(opened):
        samples = open_split(opened, "train")
    task = _task(opened.format, samples)
    if start is not None:
        recipe = load_recipe(f"own_data_{task}", given)
    suited = {"run.best_metric": _METRICS[task], **_sizes(recipe, samples), **_machine(recipe)}
    recipe = load_recipe(recipe, suited | given)
    return load_recipe(recipe, _length(recipe, len(samples), given) | given)


def _name(root: str) -> str:
    """Return a name for the folder of a run: that of the data set, without what is not good in names of folders."""
    root = root.partition("://")[2] or os.path.abspath(root)
    parts = [part for part in re.split(r"[\\/]", root) if not re.search(r"[*{}]", part)]
    name = re.sub(r"[^\w.-]+", "-", re.sub(r"[:@].*", "", parts[-1] if parts else "")).strip("-.")
    return name or "data"


def _task(data_format: str, samples: AnnotatedImages) -> str:
    tasks = FORMATS[data_format].tasks
    if len(tasks) == 1:
        return tasks[0]
    things = {category.is_thing for category in samples.categories}
    return "panoptic" if len(things) == 2 else "instance" if True in things else "semantic"


def _sizes(recipe: Recipe, samples: AnnotatedImages) -> dict[str, Any]:
    """Return smaller sizes than those of a recipe, in proportion, where images are much smaller."""
    edges = []
    for place in np.linspace(0, len(samples) - 1, min(len(samples), _LOOKED_AT)).astype(int).tolist():
        try:
            edges.append(min(samples[place].image.shape[:2]))
        except (ValueError, OSError):  # training says which, and what becomes of it
            continue
    enlarged = 1 if recipe.model.pretrained is None else 2
    edge = recipe.data.shortest_edge
    smaller = math.ceil(enlarged * float(np.median(edges)) / _STRIDE) * _STRIDE if edges else edge
    if smaller >= edge:
        return {}

    def scaled(size: Any) -> Any:
        if isinstance(size, int):
            return math.ceil(size * smaller / edge)
        return None if size is None else [scaled(one) for one in size]

    names = ("jitter_size", "crop_size", "shortest_edge", "longest_edge")
    sizes = {f"data.{name}": getattr(recipe.data, name) for name in ("shortest_edge", "longest_edge")}
    sizes |= {f"data.transform.{name}": getattr(recipe.data.transform, name) for name in names}
    return {key: scaled(size) for key, size in sizes.items()}


def _machine(recipe: Recipe) -> dict[str, Any]:
    """Return what processors, GPUs and processes there are good for."""
    optim, processes = recipe.optim, int(os.environ.get("WORLD_SIZE", "1"))
    found: dict[str, Any] = {"data.workers": min(recipe.data.workers, num_threads(dict(os.environ), processes) - 1)}
    if not torch.cuda.is_available():
        found["run.precision"] = "no"
    elif torch.cuda.get_device_properties(0).total_memory >= _ENOUGH_GIBIBYTES * 2**30:
        found["optim.accumulation"] = 1
    if processes > 1:
        found["optim.accumulation"] = 1
        found["optim.batch_size"] = math.ceil(optim.batch_size / processes) * processes
    return found


def _length(recipe: Recipe, num_images: int, given: dict[str, Any]) -> dict[str, Any]:
    """Return how long to train, and what goes with it: fewer steps, more frequent evaluations and checkpoints."""
    batch_size, schedule = recipe.optim.batch_size, recipe.schedule.counted(num_images, recipe.optim.batch_size)
    steps, length = schedule.steps, {}
    if not {"schedule.max_steps", "schedule.epochs"} & given.keys():
        epochs = 100 if recipe.model.pretrained is None else 50
        steps = max(steps, ScheduleRecipe(epochs=epochs).counted(num_images, batch_size).steps)
        length = {"schedule.max_steps": steps}
    often = max(1, steps // 5)
    return {
        **length,
        "schedule.warmup_steps": min(schedule.warmup_steps, steps // 10),
        "run.checkpoint_every": min(recipe.run.checkpoint_every, often),
        "run.eval_every": min(recipe.run.eval_every, often),
    }
