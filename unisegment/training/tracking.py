# SPDX-License-Identifier: Apache-2.0
"""Names of trackers and a run in, trackers that accelerate feeds out."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType

from unisegment.files import write_text
from unisegment.ops.downloads import public_address
from unisegment.runs.run_folder import RunFolder
from unisegment.runs.settings import RecipeError


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that cannot be used: accelerate leaves them out without a word.

    Raises:
        RecipeError: For a name that accelerate does not know, or a package that is not installed.
    """
    known = [str(kind) for kind in LoggerType.list() if str(kind) != LoggerType.ALL.value]
    installed = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in known:
            raise RecipeError(f"run.trackers: there is no tracker {name!r}. Choose among {', '.join(known)}.")
        if name not in installed:
            raise RecipeError(f"run.trackers: {name} is not installed. Install it: pip install {name}.")


def start_trackers(accelerator: Accelerator, project: str, folder: RunFolder, recipe: Mapping[str, Any]) -> None:
    """Begin to track, or go on with the same run of a tracker that can do so.

    Args:
        accelerator: Made with the trackers' names; `accelerator.log` is what feeds them.
        project: Name of the project there.
        folder: Gives the run its name, and holds what trackers write.
        recipe: Nested keys of the run.
    """
    if not accelerator.log_with or not accelerator.is_main_process:
        return
    folder.trackers.mkdir(exist_ok=True)
    id_file = folder.trackers / "run_id"
    if not id_file.exists():
        write_text(id_file, uuid.uuid4().hex[:8])
    run_id = id_file.read_text(encoding="utf-8")
    name = f"{folder.root.name}-{run_id}"
    accelerator.init_trackers(
        project,
        config=dict(_flat(recipe)),
        init_kwargs={
            "wandb": {"name": name, "id": run_id, "resume": "allow", "dir": str(folder.trackers)},
            "trackio": {"name": name, "resume": "allow"},
        },
    )


def _flat(section: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return dotted keys with values that every tracker takes, and nothing of an address that may be a password."""
    pairs: list[tuple[str, Any]] = []
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            is_number = isinstance(value, bool | int | float)
            pairs.append((f"{prefix}{key}", value if is_number else public_address(str(value))))
    return pairs


def track(accelerator: Accelerator, values: dict[str, Any], step: int) -> None:
    """Give the trackers what is a number of these values."""
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    accelerator.log(numbers, step=step)
