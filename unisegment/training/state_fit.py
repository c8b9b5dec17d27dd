# SPDX-License-Identifier: Apache-2.0
"""A state to resume from and the model of a recipe in; whether the one fits the other, and which keys differ, out."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from unisegment.runs.recipe import Recipe
from unisegment.runs.run_folder import RunFolder
from unisegment.runs.settings import RecipeError
from unisegment.training.checkpointing import changes_since
from unisegment.training.ema import averaged_tensors
from unisegment.training.optimization import make_optimizer
from unisegment.training.state_files import (
    AVERAGE,
    MOMENTS,
    WEIGHTS,
    check_pickles,
    damaged,
    read_average,
    read_moments,
    read_numbers,
    read_shapes,
)


def check_fit(state: Path | None, recipe: Recipe, model: nn.Module) -> None:
    """Refuse a state that is damaged, or whose weights, or what learns of them, are not those of the model.

    Args:
        state: Its folder. None is a run that begins anew; of weights in parts (FSDP, DeepSpeed) only the rest is seen.
        recipe: The recipe now.
        model: What it describes.

    Raises:
        RecipeError: Says which file is damaged; or which keys of the recipe differ, and which weights.
    """
    if state is None:
        return
    check_pickles(state)
    had_average = read_numbers(state).average_steps is not None
    if had_average != (recipe.optim.ema_decay > 0):
        raise RecipeError(
            f"optim.ema_decay: {state} was saved {'with' if had_average else 'without'} a moving average of the "
            f"weights. Set {'what it was then' if had_average else '0'}, or start another run from its model."
        )
    if (state / WEIGHTS).is_file() or not _is_in_parts(state):
        _check_tensors(state, recipe, model)
    if had_average:
        wanted = averaged_tensors(model)
        constant = dict(model.named_buffers()).keys() - wanted.keys()  # which earlier releases averaged as well
        saved = {name: tensor for name, tensor in read_average(state).items() if name not in constant}
        differing = _difference(_shapes(saved), _shapes(wanted))
        if differing:
            raise damaged(state / AVERAGE, differing)


def _is_in_parts(state: Path) -> bool:
    return any(path.is_dir() or path.name.startswith("pytorch_model") for path in state.iterdir())


def _check_tensors(state: Path, recipe: Recipe, model: nn.Module) -> None:
    other_weights = _difference(read_shapes(state), _shapes(model.state_dict()))
    other_groups = None if other_weights else _other_groups(state, recipe, model)
    if other_weights or other_groups:
        part, keys = ("model", ("model.",)) if other_weights else ("optimiser", ("model.", "optim.", "schedule.name"))
        changes = [line for line in changes_since(RunFolder(state.parent.parent), recipe) if line.startswith(keys)]
        raise RecipeError(
            f"{state} does not fit the {part} of this recipe ({', '.join(changes) or f'keys of {part} differ'}): "
            f"{other_weights or other_groups}. Choose another run.output_dir, begin anew with run.resume=never and "
            f"run.overwrite=true, or set back what was changed."
        )


def _other_groups(state: Path, recipe: Recipe, model: nn.Module) -> str | None:
    """Say how many weights learn in each group, if they are others; check the tensors that belong to each of them."""
    sizes, moments = read_moments(state, device="meta")
    groups = [group["params"] for group in make_optimizer(model, recipe.optim, recipe.schedule).param_groups]
    if sizes != [len(group) for group in groups]:
        wanted = [len(group) for group in groups]
        return f"weights that learn, by learning rate and decay, are {sizes} there and {wanted} here"
    weights = [weight for group in groups for weight in group]
    for number, tensors in moments.items():
        shape = tuple(weights[number].shape)
        differing = _difference(_shapes(tensors), {"step": (), "exp_avg": shape, "exp_avg_sq": shape})
        if differing:
            raise damaged(state / MOMENTS, f"in state.{number}, {differing}")
    return None


def _difference(saved: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> str | None:
    """Say which tensors are missing, too many or of another shape."""
    others = sorted(name for name in saved if name not in wanted or saved[name] != wanted[name])
    others += sorted(wanted.keys() - saved.keys())
    if not others:
        return None
    return (
        f"{len(others)} weights differ, such as {others[0]}, which is {_shape(saved, others[0])} there and "
        f"{_shape(wanted, others[0])} here"
    )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return str(shapes[name]) if name in shapes else "not"
