# SPDX-License-Identifier: Apache-2.0
"""A state to resume from and the model of a recipe in; whether the one fits the other, and which keys differ, out."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from unisegment.training.checkpointing import RunFolder, changes_since, check_average
from unisegment.training.optimization import make_optimizer
from unisegment.training.recipe import Recipe
from unisegment.training.settings import RecipeError


def check_fit(state: Path | None, recipe: Recipe, model: nn.Module) -> None:
    """Refuse a state whose weights, or what learns of them, are not those of the model: it would fail to load.

    Args:
        state: As accelerate saves it. None is a run that begins anew; weights in parts (FSDP, DeepSpeed) pass.
        recipe: The recipe now.
        model: What it describes.

    Raises:
        RecipeError: Says which keys of the recipe differ, and which weights.
    """
    if state is None:
        return
    check_average(state, recipe.optim.ema_decay > 0)
    if not (state / "model.safetensors").is_file():
        return
    other_weights = _other_weights(state, model)
    other_groups = None if other_weights else _other_groups(state, recipe, model)
    if other_weights or other_groups:
        part, keys = ("model", ("model.",)) if other_weights else ("optimiser", ("model.", "optim."))
        changes = [line for line in changes_since(RunFolder(state.parent.parent), recipe) if line.startswith(keys)]
        raise RecipeError(
            f"{state} does not fit the {part} of this recipe ({', '.join(changes) or f'keys of {part} differ'}): "
            f"{other_weights or other_groups}. Choose another run.output_dir, begin anew with run.resume=never and "
            f"run.overwrite=true, or set back what was changed."
        )


def _other_weights(state: Path, model: nn.Module) -> str | None:
    with safe_open(state / "model.safetensors", framework="pt") as file:
        saved = {name.removeprefix("model."): tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wanted = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    others = sorted(name for name in saved if name not in wanted or saved[name] != wanted[name])
    others += sorted(wanted.keys() - saved.keys())
    if not others:
        return None
    return (
        f"{len(others)} weights differ, such as {others[0]}, which is {_shape(saved, others[0])} there and "
        f"{_shape(wanted, others[0])} here"
    )


def _other_groups(state: Path, recipe: Recipe, model: nn.Module) -> str | None:
    saved = torch.load(state / "optimizer.bin", mmap=True, weights_only=True)["param_groups"]
    numbers = [len(group["params"]) for group in saved]
    wanted = [len(group["params"]) for group in make_optimizer(model, recipe.optim).param_groups]
    if numbers == wanted:
        return None
    return f"weights that learn, by learning rate and decay, are {numbers} there and {wanted} here"


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return str(shapes[name]) if name in shapes else "not"
