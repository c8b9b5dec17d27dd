# SPDX-License-Identifier: Apache-2.0
"""A state to resume from and the model of a recipe in; whether the one fits the other, and which keys differ, out."""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from unisegment.training.checkpointing import RunFolder, changed_keys
from unisegment.training.recipe import Recipe
from unisegment.training.settings import RecipeError, parse_yaml, plain


def check_fit(state: Path | None, recipe: Recipe, model: nn.Module) -> None:
    """Refuse a state whose weights are not those of the model: it would fail while it is loaded.

    Args:
        state: As accelerate saves it. None is a run that begins anew; weights in parts (FSDP, DeepSpeed) pass.
        recipe: The recipe now.
        model: What it describes.

    Raises:
        RecipeError: Says which keys of the recipe differ, and which weights.
    """
    if state is None or not (state / "model.safetensors").is_file():
        return
    with safe_open(state / "model.safetensors", framework="pt") as file:
        saved = {name.removeprefix("model."): tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wanted = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    others = sorted(name for name in saved if name not in wanted or saved[name] != wanted[name])
    if not others and len(saved) == len(wanted):
        return
    missing = sorted(wanted.keys() - saved.keys())
    name = [*others, *missing][0]
    changes = _changed_model(state, recipe)
    raise RecipeError(
        f"{state} does not fit the model of this recipe ({', '.join(changes) or 'keys of model differ'}): "
        f"{len(others) + len(missing)} weights differ, such as {name}, which is {_shape(saved, name)} there and "
        f"{_shape(wanted, name)} here. Choose another run.output_dir, begin anew with run.resume=never and "
        f"run.overwrite=true, or set back what was changed."
    )


def _changed_model(state: Path, recipe: Recipe) -> list[str]:
    file = RunFolder(state.parent.parent).recipe
    if not file.is_file():
        return []
    before: dict[str, Any] = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    now = parse_yaml(recipe.to_yaml(), "the recipe")
    return changed_keys(plain(before["model"]), plain(now["model"]), "model.")


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return str(shapes[name]) if name in shapes else "not"
