# SPDX-License-Identifier: Apache-2.0
"""A recipe in, whether its run may start, goes on or must stay away out; and states of training saved in its folder."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unisegment.files import PARTIAL, partial_name, put_in_place, writing
from unisegment.runs.folder_lock import LOCK
from unisegment.runs.recipe import Recipe
from unisegment.runs.recipe_files import read_mapping
from unisegment.runs.run_folder import RunFolder, state_step
from unisegment.runs.settings import RecipeError, plain, with_defaults
from unisegment.training.sharding import plain_errors
from unisegment.training.state_files import CATEGORIES
from unisegment.training.training_state import TrainingState


@dataclass(frozen=True)
class Start:
    """How a run begins.

    Args:
        state: State to continue from; None starts anew.
        is_finished: True when there is nothing left to do.
        clears: True when an earlier run in the folder is to be removed.
    """

    state: Path | None = None
    is_finished: bool = False
    clears: bool = False


def plan_start(recipe: Recipe) -> Start:
    """Decide how to begin, without touching anything.

    Raises:
        RecipeError: When beginning would destroy results, or there is nothing to continue from.
    """
    run, folder = recipe.run, RunFolder(Path(recipe.run.output_dir))
    if os.path.lexists(folder.root) and not folder.root.is_dir():
        raise RecipeError(f"run.output_dir={folder.root} is no folder. Choose another.")
    # A run that was killed before it had written its first file has left these.
    is_empty = not folder.root.exists() or all(
        path.name == LOCK or path.name.endswith(PARTIAL) for path in folder.root.iterdir()
    )
    if run.resume == "never":
        if not is_empty and not run.overwrite:
            raise RecipeError(
                f"{folder.root} is not empty. Choose another run.output_dir, continue with run.resume=auto, or remove "
                f"the earlier run there with run.overwrite=true."
            )
        return Start(clears=True)
    if run.resume != "auto":
        if folder.is_finished() and not run.overwrite:
            raise RecipeError(
                f"{folder.root} holds a finished run. Choose another run.output_dir to continue from {run.resume}, or "
                f"overwrite the results with run.overwrite=true."
            )
        state = _state_at(Path(run.resume))
        if folder.states_after(state_step(state)) and not run.overwrite:
            raise RecipeError(
                f"{folder.root} holds a run that is further than {state}. Continue it with run.resume=auto, choose "
                f"another run.output_dir, or give up what comes after that state with run.overwrite=true."
            )
        return Start(state=state)
    if folder.is_finished():
        return Start(is_finished=True)
    if not is_empty and not folder.recipe.is_file():
        raise RecipeError(f"{folder.root} holds files, but no run to continue. Choose another run.output_dir.")
    return Start(state=folder.latest_state())


def _state_at(path: Path) -> Path:
    """Return a state given by its own folder or by the folder of its run."""
    state = path if path.name.startswith("step-") else RunFolder(path).latest_state()
    if state is None or not state.is_dir():
        raise RecipeError(
            f"run.resume={path}: there is no state to continue from. Give auto, never, the output_dir of a run, or one "
            f"of the folders checkpoints/step-… in it."
        )
    return state


def save_state(
    training: TrainingState, folder: RunFolder, keep: int, categories: list[dict[str, Any]] | None = None
) -> None:
    """Save everything that training goes on from, then remove older states but `keep`.

    All processes call this. The state has its name only once it is complete and on disk.

    Args:
        training: What to save.
        folder: Where to write.
        keep: How many states stay.
        categories: Those of the model's config.

    Raises:
        WriteError: When it cannot be written.
    """
    accelerator = training.accelerator
    state = folder.states / f"step-{training.progress.step:06d}"
    partial = partial_name(state)
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    with writing(state), plain_errors():
        partial.mkdir(parents=True, exist_ok=True)
        training.save(partial)
        if accelerator.is_main_process and categories is not None:
            (partial / CATEGORIES).write_text(json.dumps(categories), encoding="utf-8")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        put_in_place(state)
        folder.remove_states(folder.all_states()[:-keep])
    accelerator.wait_for_everyone()


def changes_since(folder: RunFolder, recipe: Recipe) -> list[str]:
    """Describe what a recipe changes of the one that a folder was trained with, one line for each key.

    Keys that are newer than the folder's recipe had their defaults there. What nobody has looked at yet changes
    nothing: a format that is `auto`, the steps of `epochs`, and the micro-batches of `micro_batch`.
    """
    if not folder.recipe.is_file():
        return []
    old, new = with_defaults(Recipe, read_mapping(folder.recipe)), plain(asdict(recipe))
    if recipe.data.format == "auto":
        new["data"]["format"] = old["data"]["format"]
    if recipe.optim.micro_batch is not None:
        new["optim"] |= {key: old["optim"][key] for key in ("accumulation", "micro_batch")}
    if recipe.schedule.epochs is not None:
        new["schedule"] |= {key: old["schedule"][key] for key in ("max_steps", "epochs")}
    return changed_keys(old, new)


def changed_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Describe where two nested mappings differ, one line for each key."""
    changes = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += changed_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            changes.append(f"{prefix}{key}: {before} -> {after}")
    return changes
