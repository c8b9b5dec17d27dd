# SPDX-License-Identifier: Apache-2.0
"""The folder of a state in; the numbers, texts and tensors in its files, checked, out. Nothing of them is executed.

====================== =================================================================================
`model.safetensors`    the weights; with FSDP2 or DeepSpeed, folders in which every process has its part
`optimizer.bin`        the moments of each weight; with FSDP2 or DeepSpeed likewise
`average.safetensors`  the moving average of the weights, if there is one
`progress.json`        everything else that is a number or a text
`categories.json`      the classes that the labels of the model stand for
`repeats.safetensors`  how often an epoch shows each image, if it is not once
====================== =================================================================================

Random numbers are none of it: each step draws its own, by its number. Release 0.1 left the average and the progress to
pickles, of which the same numbers, texts and tensors are taken.
"""

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import load as load_with_arrays
from jaxtyping import Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from unisegment.data.annotated_images import category_of_entry
from unisegment.ops.json_reading import read_json
from unisegment.ops.weight_files import read_weight_file, require_sound
from unisegment.runs.settings import NotBelowZero, NotNegative, RecipeError, check, construct
from unisegment.structures import Category

WEIGHTS = "model.safetensors"
MOMENTS = "optimizer.bin"
AVERAGE = "average.safetensors"
PROGRESS = "progress.json"
CATEGORIES = "categories.json"
REPEATS = "repeats.safetensors"
# Of 0.1. Number 0 is the schedule, whose state the number of steps says, too.
_OLD_PROGRESS, _OLD_UNREADABLE, _OLD_AVERAGE = (f"custom_checkpoint_{number}.pkl" for number in (1, 2, 3))
_OLD_SCALE = "scaler.pt"
_MOST_RANDOM = 2**24
"""Bytes that the random numbers of a process may take: some thousand for each generator."""


@dataclass
class Progress:
    """How far a run is.

    Args:
        step: Steps taken.
        seconds: Time that they took, without evaluation and saving.
        non_finite: How many of the last ones were left out because of their loss, in a row.
        overflows: How many of the last ones were left out because fp16's scaled gradients overflowed, in a row.
    """

    step: NotNegative = 0
    seconds: NotBelowZero = 0.0
    non_finite: NotNegative = 0
    overflows: NotNegative = 0


@dataclass(frozen=True)
class SavedNumbers:
    """What `progress.json` holds.

    Args:
        progress: How far the run is.
        unreadable: What is wrong with the images that were left out.
        average_steps: Steps in the moving average; None without one.
        scale: fp16's loss scale; None in other number formats.
        scale_steps: Steps since it changed.
    """

    progress: Progress
    unreadable: tuple[str, ...]
    average_steps: NotNegative | None
    scale: NotBelowZero | None
    scale_steps: NotNegative


@dataclass(frozen=True, eq=False)
class Repeats:
    """How often an epoch shows each image on average, see `repeat_factors`.

    Args:
        threshold: `data.repeat_threshold`, that they come from.
        factors: One for each image.
    """

    threshold: float
    factors: Float64[np.ndarray, " n"]


def read_numbers(state: Path) -> SavedNumbers:
    """Return what a state holds besides tensors.

    Raises:
        RecipeError: When its file is missing or damaged, or has another number of steps than the name of the state.
    """
    file = state / (_OLD_PROGRESS if _is_old(state) else PROGRESS)
    old = _old_numbers(state) if _is_old(state) else None
    with _read_as_data(file):
        content = read_json(file, "it") if old is None else old
        checked = check(SavedNumbers, content, str(file))
        found = {*checked, *checked.get("progress", ())}
        missing = [item.name for item in (*fields(SavedNumbers), *fields(Progress)) if item.name not in found]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        numbers: SavedNumbers = construct(SavedNumbers, checked, str(file))
        if f"step-{numbers.progress.step:06d}" != state.name:
            raise ValueError(f"progress.step is {numbers.progress.step}, in a state that is called {state.name}")
    return numbers


def read_average(state: Path) -> dict[str, Tensor]:
    """Return the moving average of a state, by the names of the weights.

    Raises:
        RecipeError: When its file is missing or damaged.
    """
    file = state / (_OLD_AVERAGE if _is_old(state) else AVERAGE)
    with _read_as_data(file):
        average = read_weight_file(file).get("average") if _is_old(state) else load_file(file)
        if not isinstance(average, Mapping):
            raise ValueError("average must be tensors under names")
        _require_tensors(average, "average")
    return dict(average)


def read_weights(state: Path) -> dict[str, Tensor]:
    """Return the weights of a state.

    Raises:
        RecipeError: When their file is missing or damaged.
    """
    with _read_as_data(state / WEIGHTS):
        return {_plain_name(name): tensor for name, tensor in load_file(state / WEIGHTS).items()}


def read_shapes(state: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of a state, without reading the weights themselves.

    Raises:
        RecipeError: When their file is missing or damaged.
    """
    with _read_as_data(state / WEIGHTS), safe_open(state / WEIGHTS, framework="pt") as file:
        return {_plain_name(name): tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read_moments(state: Path, device: str = "cpu") -> tuple[list[int], dict[int, dict[str, Tensor]]]:
    """Return how many weights learn in each group of an optimiser, and its tensors for each of them, by their number.

    Args:
        state: Its folder.
        device: "cpu"; or "meta", which has the shapes only and takes no memory.

    Raises:
        RecipeError: When their file is missing or damaged.
    """
    file = state / MOMENTS
    with _read_as_data(file):
        require_sound(file)
        if device == "meta":
            content = torch.load(file, map_location="meta", weights_only=True)
        else:
            content = read_weight_file(file)
        groups, moments = content.get("param_groups"), content.get("state")
        if not isinstance(groups, list) or not all(isinstance(_params(group), list) for group in groups):
            raise ValueError("param_groups must be a list of groups with params")
        sizes = [len(_params(group)) for group in groups]
        if [number for group in groups for number in _params(group)] != [*range(sum(sizes))]:
            raise ValueError("params of param_groups must be numbers from 0, each once")
        if not isinstance(moments, Mapping):
            raise ValueError("state must be tensors under numbers")
        for number, tensors in moments.items():
            if type(number) is not int or number not in range(sum(sizes)) or not isinstance(tensors, Mapping):
                raise ValueError(f"state must be tensors under numbers below {sum(sizes)}, got {number!r}")
            _require_tensors(tensors, f"state.{number}")
    return sizes, dict(moments)


def check_pickles(state: Path) -> None:
    """Refuse a state with a pickle of 0.1 that is damaged, or more than data, be it one that nothing is taken from.

    Raises:
        RecipeError: Names the file.
    """
    for file in sorted(state.glob("*.pkl")):
        with _read_as_data(file):
            if file.name.startswith("random_states_"):
                _read_arrays(file)
            else:
                read_weight_file(file)


def read_categories(state: Path | None) -> list[Category] | None:
    """Return the categories whose labels the weights of a state know; None without a state, or where it does not say.

    Raises:
        RecipeError: When their file is damaged.
    """
    file = None if state is None else state / CATEGORIES
    if file is None or not file.is_file():
        return None
    with _read_as_data(file):
        entries = read_json(file, "it")
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise ValueError("it must hold a list of categories")
        try:
            return [category_of_entry(entry) for entry in entries]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"a category lacks id or name, or has others than expected ({error!r})") from error


def read_repeats(state: Path | None) -> Repeats | None:
    """Return how often an epoch shows each image; None without a state, or where each comes once.

    Raises:
        RecipeError: When their file is damaged.
    """
    file = None if state is None else state / REPEATS
    if file is None or not file.is_file():
        return None
    with _read_as_data(file):
        tensors = load_file(file)
        if tensors.keys() != {"threshold", "factors"} or any(item.dtype != torch.float64 for item in tensors.values()):
            raise ValueError("it must hold threshold and factors, in 64 bits")
        factors = tensors["factors"].numpy()
        highest = math.sqrt(max(factors.size, 1))
        if factors.ndim != 1 or not ((factors >= 1) & (factors <= highest)).all():
            raise ValueError(f"factors must be one for each image, from 1 to {highest:.6g}")
        return Repeats(tensors["threshold"].item(), factors)


def damaged(file: Path, problem: str) -> RecipeError:
    """Return the error for a file of a state that does not hold what it should."""
    # Readers name the file, too; once is enough.
    problem = problem.removeprefix(f"{file}: ").replace(repr(str(file)), "it").replace(str(file), "it")
    return RecipeError(
        f"{file} cannot be used: {problem.rstrip('.')}. Remove the folder {file.parent}: the same command then goes on "
        "from the state before it, or begins anew where there is none."
    )


@contextmanager
def _read_as_data(file: Path) -> Iterator[None]:
    """Raise what readers say of missing, damaged and hostile files as one error, which says what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise damaged(file, "it is missing") from error
    except (ValueError, OSError, OverflowError, SafetensorError) as error:
        raise damaged(file, str(error)) from error


def _require_tensors(tensors: Mapping[Any, Any], place: str) -> None:
    for name, tensor in tensors.items():
        is_plain = isinstance(tensor, Tensor) and tensor.layout is torch.strided and tensor.is_floating_point()
        if not isinstance(name, str) or not is_plain:
            raise ValueError(f"{place}.{name!r:.99} must be a tensor of floating-point numbers under a name")


def _read_arrays(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as members:
            if sum(member.file_size for member in members.infolist()) > _MOST_RANDOM:
                raise ValueError(f"it holds more than {_MOST_RANDOM} bytes")
        load_with_arrays(file, map_location="cpu")  # which knows numpy's arrays besides tensors
    except Exception as error:  # what damaged files raise in torch.load is beyond listing
        raise ValueError("it is damaged, or asks for more than numbers") from error


def _is_old(state: Path) -> bool:
    return (state / _OLD_PROGRESS).is_file() and not (state / PROGRESS).is_file()


def _old_numbers(state: Path) -> dict[str, Any]:
    """Return what a state of 0.1 holds besides tensors, as it is written today."""
    average = _old_part(state / _OLD_AVERAGE) if (state / _OLD_AVERAGE).is_file() else {}
    scale = _old_part(state / _OLD_SCALE) if (state / _OLD_SCALE).is_file() else {}
    return {
        "progress": _old_part(state / _OLD_PROGRESS),
        "unreadable": _old_part(state / _OLD_UNREADABLE).get("problems"),
        "average_steps": average.get("steps"),
        "scale": scale.get("scale"),
        "scale_steps": scale.get("_growth_tracker", 0),
    }


def _old_part(file: Path) -> dict[str, Any]:
    with _read_as_data(file):
        return read_weight_file(file)


def _params(group: Any) -> Any:
    return group.get("params") if isinstance(group, Mapping) else None


def _plain_name(name: str) -> str:
    """Return the name of a weight of the model itself, without those of what is around it in training."""
    return name.removeprefix("module.").removeprefix("model.")
