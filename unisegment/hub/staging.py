# SPDX-License-Identifier: Apache-2.0
"""The folder of a run or of a checkpoint in, the folder of files that a repository on the Hub gets out."""

import json
import os
import shutil
from pathlib import Path

import yaml

from unisegment.hub.model_card import PICTURE, model_card
from unisegment.hub.run_files import read_run
from unisegment.hub.sharing import shared
from unisegment.models.base import FAMILIES
from unisegment.models.checkpoints import open_checkpoint
from unisegment.models.choices import Layout
from unisegment.models.configuration import SegmentationConfig
from unisegment.ops.json_reading import read_json


def stage(
    folder: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    repo_id: str,
    *,
    format: Layout = "auto",
    license: str | None = None,
) -> None:
    """Write what will be uploaded: weights, processor, recipe, a picture and the model card.

    The same folder gives the same bytes, so that the Hub knows the files when they come again.

    Args:
        folder: `run.output_dir` of a finished run, or a checkpoint; nothing there is changed.
        destination: Folder, made when it is missing.
        repo_id: Where it will be: `user/name`.
        format: "auto" writes transformers' own layout where a model of its can be what the model is, else ours.
        license: Licence of the weights, where those that they come from leave the choice.

    Raises:
        ValueError: When there is no finished model, no model of transformers can be what it is, or the licence is not
            to be chosen.
    """
    run, destination = read_run(Path(folder)), Path(destination)
    model, processor = open_checkpoint(run.checkpoint)
    why_not_stock = _why_not_stock(model.config)
    if format == "auto":
        format = "unisegment" if why_not_stock else "transformers"
    elif format == "unisegment":
        why_not_stock = why_not_stock or "it has the layout of unisegment."
    card = model_card(repo_id, run, model, processor, why_not_stock=why_not_stock, license=license)
    model.config.backbone, model.config.use_pretrained_backbone = None, False  # all weights are here
    model.save_pretrained(destination, format=format)
    processor.save_pretrained(destination, format=format)
    for file in destination.glob("*.json"):
        file.write_text(json.dumps(shared(read_json(file)), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if run.recipe is not None:
        text = yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True)
        (destination / "recipe.yaml").write_text(text, encoding="utf-8")
    if run.picture is not None:
        shutil.copyfile(run.picture, destination / PICTURE)
    card.save(destination / "README.md")


def _why_not_stock(config: SegmentationConfig) -> str | None:
    try:
        FAMILIES[config.model_type].stock_layout(config)
    except ValueError as error:
        return str(error)
    return None
