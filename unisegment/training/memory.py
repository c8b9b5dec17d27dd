# SPDX-License-Identifier: Apache-2.0
"""A model, an optimiser and a batch in, the memory that a training step will need out, without taking it.

The step runs on tensors without contents (torch's fake tensors): shapes, and how long each tensor lives, are real.
"""

import copy
import weakref
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from unisegment.structures import SegmentationTarget


def step_memory(
    model: Any,
    make_optimizer: Callable[[nn.Module], Optimizer],
    inputs: dict[str, Any],
    *,
    extra_copies: int = 0,
    autocast_dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, int]:
    """Return bytes that a process needs for its tensors, without what PyTorch itself takes.

    Args:
        model: A `SegmentationModel`; its weights are not touched.
        make_optimizer: Makes the optimiser of a model.
        inputs: One micro-batch, as the model's `forward` takes it.
        extra_copies: How often the weights that learn are held besides, as by a moving average.
        autocast_dtype: What autocast computes in; None is no autocast.
        device: Where the step would run, which decides about operators.

    Returns:
        `weights`, `gradients`, `optimizer`, `average`, `activations` (all else at the worst moment), and `peak`, their
        sum.
    """
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        model = copy.deepcopy(model)
    inputs = tree_map(lambda leaf: _fake(mode, leaf, device), inputs)
    with mode:
        _move(model, device)
    with mode, model.loss_without_values(), _Watch() as memory:
        model.train()
        optimizer = make_optimizer(model)
        weights = [*model.parameters(), *model.buffers()]
        learning = [weight for weight in model.parameters() if weight.requires_grad]
        memory.peak = 0
        with torch.autocast(torch.device(device).type, autocast_dtype, enabled=autocast_dtype is not None):
            model(**inputs).loss.backward()
        of_step = memory.peak
        optimizer.step()
        found = {
            "weights": _bytes(weights),
            "gradients": _bytes(learning),
            "optimizer": _bytes(tree_leaves([*optimizer.state.values()])),
            "average": extra_copies * _bytes(learning),
        }
    # Gradients are made one after the other while activations go: the watched peak has those that were there.
    found["activations"] = max(of_step - found["gradients"], 0)
    return found | {"peak": sum(found.values())}


class _Watch(TorchDispatchMode):
    """Counts the bytes of tensors that are made, until they are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it makes."""
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen[storage] = True
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.live -= size


def _move(model: nn.Module, device: torch.device | str) -> None:
    """Do what `model.to(device)` does, which fake weights refuse."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(weight.to(device), requires_grad=weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)


def _fake(mode: FakeTensorMode, leaf: Any, device: torch.device | str) -> Any:
    if isinstance(leaf, SegmentationTarget):
        target = copy.copy(leaf)  # not a new one, which would be checked
        for item in fields(leaf):
            object.__setattr__(target, item.name, _fake(mode, getattr(leaf, item.name), device))
        return target
    if not isinstance(leaf, Tensor):
        return leaf
    with mode:
        return mode.from_tensor(leaf).to(device)


def _bytes(tensors: Sequence[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))
