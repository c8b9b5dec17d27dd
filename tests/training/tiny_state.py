# SPDX-License-Identifier: Apache-2.0
"""A layer in training, the files of its state, and those that release 0.1 would have written of it."""

import pickle
import random
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from unisegment.training.ema import WeightAverage
from unisegment.training.state_files import Progress, read_numbers
from unisegment.training.training_state import TrainingState
from unisegment.training.unreadable import UnreadableImages


class Mark:
    """Leaves a file when it is unpickled carelessly."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


class Losses(nn.Module):
    """Stands in for a `LossOnly`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 5)


def tiny_training(step=0, decay=0.9, seed=0):
    """Return a layer that has learned for some steps."""
    torch.manual_seed(seed)
    accelerator = Accelerator(cpu=True)
    losses = Losses()
    losses, optimizer = accelerator.prepare(losses, torch.optim.AdamW(losses.parameters(), lr=0.1, fused=True))
    average = WeightAverage(losses.model, decay) if decay else None
    training = TrainingState(accelerator, losses, optimizer, Progress(), UnreadableImages(9), average)
    for _ in range(step):
        losses.model(torch.randn(7, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        training.progress.step += 1
        if average is not None:
            average.update()
    return training


def make_old(state: Path) -> None:
    """Turn a state into what release 0.1 would have written, with accelerate's names, pickles and random numbers."""
    numbers = read_numbers(state)
    step = numbers.progress.step
    rates = {"base_lrs": [0.1], "last_epoch": step, "_step_count": step + 1, "_last_lr": [0.1], "lr_lambdas": [None]}
    parts = [rates, vars(numbers.progress), {"problems": list(numbers.unreadable)}]
    if numbers.average_steps is not None:
        parts.append({"steps": numbers.average_steps, "average": load_file(state / "average.safetensors")})
        (state / "average.safetensors").unlink()
    for number, part in enumerate(parts):
        torch.save(part, state / f"custom_checkpoint_{number}.pkl")
    generators = {"random_state": random.getstate(), "numpy_random_seed": np.random.get_state()}
    torch.save({"step": 0, **generators, "torch_manual_seed": torch.get_rng_state()}, state / "random_states_0.pkl")
    (state / "progress.json").unlink()


def hostile(mark: Path) -> bytes:
    """Return a pickle that makes a file."""
    return pickle.dumps(Mark(mark), protocol=2)
