# SPDX-License-Identifier: Apache-2.0
"""The folder of a run or of a checkpoint in, what can be told to others about it out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisegment.hub.sharing import shared_recipe
from unisegment.ops.image_opening import open_image
from unisegment.ops.json_reading import read_json
from unisegment.ops.value_kinds import FLAG, NOTHING, TEXT, Kind, number, one_of, require, whole
from unisegment.ops.yaml_reading import read_yaml
from unisegment.runs.run_folder import RunFolder

TASKS = ("semantic", "instance", "panoptic")
"""What a model is scored by."""
SCORES = ("pq", "sq", "rq", "pq_things", "pq_stuff", "mask_ap", "miou")
"""Scores of `metrics.json` that are told."""

_COUNT, _SIZE = whole(0, 10**12), number(0, 1e12)
# What a card tells, by where it stands.
_IN_A_RECIPE = {
    **{"data.root": TEXT, "data.format": TEXT, "model.pretrained": TEXT | NOTHING, "optim.batch_size": _COUNT},
    **{"optim.lr": _SIZE, "schedule.max_steps": _COUNT, "schedule.name": TEXT, "run.precision": TEXT},
}
_SCORE = number(0, 1 + 1e-6)  # a mean of perfect ones may be rounded up
_IN_METRICS = {
    **{"task": one_of(*TASKS) | NOTHING, "images": _COUNT, **dict.fromkeys(SCORES, _SCORE | NOTHING)},
    "unreadable_images": Kind("a list or null", lambda value: value is None or isinstance(value, list)),
}
_IN_METRICS_OF_A_RUN = {**_IN_METRICS, "step": _COUNT, "train_seconds": _SIZE, "finished": FLAG}


@dataclass(frozen=True)
class RunFiles:
    """What there is to publish.

    Args:
        checkpoint: Folder of the model and its processor.
        metrics: Its scores, as a run writes them; None when it has not been evaluated.
        recipe: The keys of the run that it comes from, without places on the machine of the run; None when there was
            no run.
        picture: Some of its predictions, drawn.
    """

    checkpoint: Path
    metrics: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    picture: Path | None = None


def read_run(folder: Path) -> RunFiles:
    """Find what a run has left behind.

    Args:
        folder: `run.output_dir`; or a checkpoint. `checkpoint/` and `checkpoint-best/` of a run are known as such.

    Raises:
        ValueError: When there is no model, or the scores there are not those of the model.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.exists():
        raise ValueError(f"{folder} does not exist.")
    is_checkpoint = (folder / "config.json").is_file()
    checkpoint = folder if is_checkpoint else RunFolder(folder).model
    if not (checkpoint / "config.json").is_file():
        raise ValueError(
            f"{folder} holds no model: it must be the folder of a finished run, with checkpoint/ in it, or of a "
            f"checkpoint, with config.json. `unisegment convert` makes one of a file of the original code."
        )
    own_metrics = RunFolder(checkpoint).metrics
    run = RunFolder(checkpoint.parent)
    recipe_file = _own(run.recipe)
    if recipe_file is None or checkpoint not in (run.model, run.best):
        return RunFiles(checkpoint, _read_metrics(own_metrics, _IN_METRICS))
    recipe = _read_recipe(recipe_file)
    if checkpoint == run.best:  # the pictures are those of the last model
        return RunFiles(checkpoint, _read_metrics(own_metrics, _IN_METRICS_OF_A_RUN), recipe)
    metrics = _read_metrics(run.metrics, _IN_METRICS_OF_A_RUN)
    if metrics is None or not metrics["finished"]:
        raise ValueError(
            f"The run in {run.root} is not finished, so that its scores are not those of {run.model.name}/. Give the "
            f"command that trains it again, or push {run.best}."
        )
    return RunFiles(checkpoint, metrics, recipe, _picture(run.predictions))


def _picture(folder: Path) -> Path | None:
    """Return the first of the pictures that a run has drawn, if there is one.

    Raises:
        ValueError: When it is no PNG: any other file may have been given that name.
    """
    picture = next(filter(None, map(_own, sorted(folder.glob("*.png")))), None)
    if picture is None:
        return None
    what_helps = f"Remove it, or the folder {folder}: it is then left out."
    try:
        kind = open_image(picture).format
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}. {what_helps}") from error
    if kind != "PNG":
        raise ValueError(f"{picture} is a picture of another kind ({kind}), expected is PNG. {what_helps}")
    return picture


def _read_recipe(file: Path) -> dict[str, Any]:
    """Return a recipe as others may see it.

    Raises:
        ValueError: When it is not what a run writes.
    """
    recipe = read_yaml(file)
    if not isinstance(recipe, dict) or not all(isinstance(keys, dict) for keys in recipe.values()):
        raise ValueError(f"{file} is no recipe: it must have sections, such as data and optim, with keys.")
    _require_all(
        file, {f"{section}.{key}": recipe[section][key] for section in recipe for key in recipe[section]}, _IN_A_RECIPE
    )
    return shared_recipe(recipe, file.parent)


def _read_metrics(file: Path, kinds: Mapping[str, Kind]) -> dict[str, Any] | None:
    """Return the scores of a model; None when it has not been evaluated.

    Raises:
        ValueError: When they are not what a run writes.
    """
    if _own(file) is None:
        return None
    metrics = read_json(file)
    if not isinstance(metrics, dict):
        raise ValueError(f"{file} holds no scores: it must have names with numbers.")
    _require_all(file, metrics, kinds)
    return metrics


def _require_all(file: Path, values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    for key, kind in kinds.items():
        require(f"{file}: {key}", values.get(key), kind)


def _own(file: Path) -> Path | None:
    """Return a file if it is there.

    Raises:
        ValueError: When it is a link: a folder that somebody hands over would upload any file of this machine.
    """
    if file.is_symlink():
        raise ValueError(f"{file} is a link: what is uploaded must lie in the folder itself. Put the file there.")
    return file if file.is_file() else None
