# SPDX-License-Identifier: Apache-2.0
"""The folder of a run or of a checkpoint in, what can be told to others about it out."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

_PRIVATE = {"data": ("root", "categories"), "run": ("output_dir", "resume")}
"""Keys of a recipe that say where things lie on the machine of the run."""
_HUB_DATA_SET = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:[@/].*)?|([\w.-]+/[\w.-]+)(?::[\w.-]+)?(?:@[\w./-]+)?")


@dataclass(frozen=True)
class RunFiles:
    """What there is to publish.

    Args:
        checkpoint: Folder of the model and its processor.
        metrics: Its scores, as a run writes them; None when it has not been judged.
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
    checkpoint = folder if is_checkpoint else folder / "checkpoint"
    if not (checkpoint / "config.json").is_file():
        raise ValueError(
            f"{folder} holds no model: it must be the folder of a finished run, with checkpoint/ in it, or of a "
            f"checkpoint, with config.json. `unisegment convert` makes one of a file of the original code."
        )
    root = checkpoint.parent
    if not (root / "recipe.yaml").is_file() or checkpoint.name not in ("checkpoint", "checkpoint-best"):
        return RunFiles(checkpoint, _read_json(checkpoint / "metrics.json"))
    recipe = shared_recipe(yaml.safe_load((root / "recipe.yaml").read_text(encoding="utf-8")))
    if checkpoint.name == "checkpoint-best":  # the pictures are those of the last model
        return RunFiles(checkpoint, _read_json(checkpoint / "metrics.json"), recipe)
    metrics = _read_json(root / "metrics.json")
    if metrics is None or not metrics["finished"]:
        raise ValueError(
            f"The run in {root} is not finished, so that its scores are not those of checkpoint/. Give the command "
            f"that trains it again, or push {root / 'checkpoint-best'}."
        )
    pictures = sorted((root / "predictions").glob("*.png"))
    return RunFiles(checkpoint, metrics, recipe, pictures[0] if pictures else None)


def shared_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe as others may see it: of paths only the last part is left, and it uploads nothing.

    Args:
        recipe: All keys of a run, by section.
    """
    public = _without_paths({section: keys for section, keys in recipe.items() if section != "hub"})
    for section, keys in _PRIVATE.items():
        for key in keys:
            value = recipe.get(section, {}).get(key)
            if value is not None:
                public[section][key] = _last_part(value)
    if hub_data_set(recipe):
        public["data"]["root"] = recipe["data"]["root"]
    return public


def hub_data_set(recipe: dict[str, Any] | None) -> str | None:
    """Return the name of the data set on the Hub that a recipe learns from; None when it lies elsewhere."""
    data = (recipe or {}).get("data", {})
    found = _HUB_DATA_SET.fullmatch(data.get("root", ""))
    if found is None or data.get("format") != "hugging_face" or os.path.exists(data["root"]):
        return None
    return found[1] or found[2]


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return _last_part(value) if isinstance(value, str) and _is_place(value) else value


def _is_place(text: str) -> bool:
    is_absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return is_absolute or text.startswith(("~", ".")) or "://" in text or os.path.exists(text)


def _last_part(path: str) -> str:
    # What follows ? or # in an address may be a password. Windows takes both kinds of slashes.
    name = PureWindowsPath(re.split(r"[?#]", path)[0] if "://" in path else path).name
    return name if name.strip(".~") else "folder"


def _read_json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
