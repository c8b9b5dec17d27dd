# SPDX-License-Identifier: Apache-2.0
"""A model in training in, a moving average of its weights out: it often scores better than the last weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unisegment.training.sharding import own_part, part_like, whole


class WeightAverage:
    """Exponential moving average of what learns in a model, see `averaged_tensors`.

    Args:
        model: Is looked at after each step. Its weights may be cut up over processes (FSDP2); the average then is, too.
        decay: Share of the average that a step keeps, 0 to 1. In the first steps it is smaller, (1 + n) / (10 + n)
            after n of them, so that the random start is soon forgotten.

    Source:
        TensorFlow's `ExponentialMovingAverage` (Apache-2.0) for the smaller decay at the start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._current = averaged_tensors(model)
        self._average = {name: tensor.detach().clone() for name, tensor in self._current.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of one more step into the average."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        torch._foreach_lerp_(_own_parts(self._average.values()), _own_parts(self._current.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the average for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        parts = (_own_parts(tensors.values()) for tensors in (self._current, self._average))
        for current, average in zip(*parts, strict=True):
            last = current.clone()
            current.copy_(average)
            average.copy_(last)

    def state_dict(self) -> dict[str, Any]:
        """Return what is saved, whole; all processes call this."""
        return {"steps": self.steps, "average": {name: whole(average) for name, average in self._average.items()}}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        self.steps = state["steps"]
        for name, average in self._average.items():
            own_part(average).copy_(part_like(state["average"][name], average))


def averaged_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what learns in a model, by name: trainable weights and statistics of norms.

    Other buffers are set, not learned: a probability that a schedule takes to zero must be zero in the average, too.
    """
    averaged: dict[str, Tensor] = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    for name, module in model.named_modules():
        if hasattr(module, "running_mean"):
            buffers = module.named_buffers(prefix=name, recurse=False)
            averaged |= {key: buffer for key, buffer in buffers if buffer.is_floating_point()}
    return averaged


def _own_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [own_part(tensor) for tensor in tensors]
