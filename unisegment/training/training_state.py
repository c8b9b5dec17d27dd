# SPDX-License-Identifier: Apache-2.0
"""All that training goes on from: written as the files of a state, and taken over from them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from unisegment.training.ema import WeightAverage
from unisegment.training.state_files import (
    AVERAGE,
    MOMENTS,
    PROGRESS,
    REPEATS,
    WEIGHTS,
    Progress,
    Repeats,
    SavedNumbers,
    read_average,
    read_moments,
    read_numbers,
    read_weights,
)
from unisegment.training.state_parts import is_in_parts, load_parts, save_parts
from unisegment.training.unreadable import UnreadableImages


@dataclass
class TrainingState:
    """What training goes on from; all processes call its methods together.

    Args:
        accelerator: What has prepared the next two.
        losses: A `LossOnly` of the model that is trained.
        optimizer: Its optimiser.
        progress: How far it is.
        unreadable: The images that were left out.
        average: The moving average of the weights, if there is one.
        repeats: How often an epoch shows each image, if it is not once; whoever loads images asks the state for it.
    """

    accelerator: Accelerator
    losses: nn.Module
    optimizer: Optimizer
    progress: Progress
    unreadable: UnreadableImages
    average: WeightAverage | None = None
    repeats: Repeats | None = None

    def save(self, folder: Path) -> None:
        """Write the files of a state into a folder that is there."""
        average = None if self.average is None else self.average.state_dict()
        if is_in_parts(self.accelerator):
            save_parts(self.accelerator, self.losses, self.optimizer, folder)
        if not self.accelerator.is_main_process:
            return
        if not is_in_parts(self.accelerator):
            _save_tensors(self.accelerator.unwrap_model(self.losses).state_dict(), folder / WEIGHTS)
            torch.save(self.optimizer.state_dict(), folder / MOMENTS)
        if average is not None:
            _save_tensors(average["average"], folder / AVERAGE)
        if self.repeats is not None:
            threshold = torch.tensor(self.repeats.threshold, dtype=torch.float64)
            _save_tensors({"factors": torch.from_numpy(self.repeats.factors), "threshold": threshold}, folder / REPEATS)
        scale = {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
        numbers = SavedNumbers(
            self.progress,
            tuple(self.unreadable.problems),
            None if average is None else average["steps"],
            scale.get("scale"),
            scale.get("_growth_tracker", 0),
        )
        (folder / PROGRESS).write_text(json.dumps(asdict(numbers), indent=2) + "\n", encoding="utf-8")

    def load(self, state: Path) -> None:
        """Take over what was saved; `check_fit` says before whether it fits.

        Raises:
            RecipeError: When a file is damaged, or holds more than data.
        """
        numbers = read_numbers(state)
        self._load_scale(numbers)  # first, because FSDP2 lets the optimiser take a step of nothing
        if is_in_parts(self.accelerator):
            load_parts(self.accelerator, self.losses, self.optimizer, state)
        else:
            self.accelerator.unwrap_model(self.losses).model.load_state_dict(read_weights(state))
            self._load_moments(read_moments(state)[1])
        for item in fields(Progress):
            setattr(self.progress, item.name, getattr(numbers.progress, item.name))
        self.unreadable.problems = list(numbers.unreadable)
        if self.average is not None:
            self.average.load_state_dict({"steps": numbers.average_steps, "average": read_average(state)})

    def _load_moments(self, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        own = {
            number: {
                # A copy has the strides that the optimiser's kernels count on.
                name: tensor.clone() if name == "step" else torch.empty_like(weights[number]).copy_(tensor)
                for name, tensor in tensors.items()
            }
            for number, tensors in moments.items()
        }
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": own})

    def _load_scale(self, numbers: SavedNumbers) -> None:
        scaler = self.accelerator.scaler
        if scaler is not None and numbers.scale is not None:
            saved = {"scale": numbers.scale, "_growth_tracker": numbers.scale_steps}
            scaler.load_state_dict(scaler.state_dict() | saved)
            scaler.scale(torch.zeros((), device=self.accelerator.device))  # makes it what was loaded


def _save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, {"format": "pt"})
