# SPDX-License-Identifier: Apache-2.0
"""A model, an optimiser and a batch in, the memory that a training step will need out, without taking it.

The step runs on tensors without contents (torch's fake tensors): shapes, and how long each tensor lives, are real.
"""

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from unisegment.structures import SegmentationTarget

BETWEEN = "between the parts"
"""What the model does itself."""
_PATH = 2
"""How many names tell a part: `pixel_decoder.layers`."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a process needs for its tensors, without what PyTorch itself takes.

    Args:
        weights: Parameters and buffers.
        gradients: Those of the weights that learn.
        optimizer: What the optimiser keeps of them.
        average: Further copies of them, as of a moving average.
        inputs: The micro-batch.
        activations: All else at the worst moment: what the backward pass needs, and what is only passing.
        messages: What processes exchange, which is counted by the caller.
        kept: By part of the model, named by its path, what is held from the forward to the backward pass. A storage
            counts once: for the part that saves it first, or that made it where a function holds it in a way of its
            own. What is computed again keeps its inputs alone.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    inputs: int
    activations: int
    messages: int = 0
    kept: dict[str, int] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """The sum of all but `kept`, which is a part of the activations."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, int]:
        """What the peak is the sum of, by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "kept"}


def step_memory(
    model: Any,
    make_optimizer: Callable[[nn.Module], Optimizer],
    inputs: dict[str, Any],
    *,
    extra_copies: int = 0,
    accumulates: bool = False,
    autocast_dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> StepMemory:
    """Return what a training step needs.

    Args:
        model: A `SegmentationModel`; its weights are not touched.
        make_optimizer: Makes the optimiser of a model.
        inputs: One micro-batch, as the model's `forward` takes it.
        extra_copies: How often the weights that learn are held besides, as by a moving average.
        accumulates: Whether several micro-batches make a step, so that one meets the gradients of those before it.
        autocast_dtype: What autocast computes in; None is no autocast.
        device: Where the step would run, which decides about operators.
    """
    mode = FakeTensorMode()
    with FakeCopyMode(mode):
        model = copy.deepcopy(model)
    inputs = tree_map(lambda leaf: _fake(mode, leaf, device), inputs)
    with mode:
        _move(model, device)
        learning = [weight for weight in model.parameters() if weight.requires_grad]
        for weight in learning if accumulates else ():
            weight.grad = torch.zeros_like(weight)
    held = [[*model.parameters(), *model.buffers()], learning, _tensors(inputs)]
    weights, gradients, given = (sum(storage.nbytes() for storage in _storages(tensors)) for tensors in held)
    known = _storages([held, [weight.grad for weight in learning]])
    with mode, model.loss_without_values(), _Watch(known, _parts_called(model)) as memory:
        model.train()
        optimizer = make_optimizer(model)
        cast = torch.autocast(torch.device(device).type, autocast_dtype, enabled=autocast_dtype is not None)
        with cast, memory.saving() as kept:
            loss = model(**inputs).loss
        loss.backward()
        most = memory.peak
        optimizer.step()
        state = sum(storage.nbytes() for storage in _storages([*optimizer.state.values()]))
        before = memory.peak = memory.live
        optimizer.step()  # with its state: what it needs besides
        # Gradients are made one after the other while activations go: the peak has those that were there then.
        activations = max(most - (0 if accumulates else gradients), memory.peak - before, 0)
    return StepMemory(weights, gradients, state, extra_copies * gradients, given, activations, kept=kept)


class _Watch(TorchDispatchMode):
    """Counts the bytes of tensors that are made, until they are gone.

    Args:
        known: Storages that are there, of which more tensors are made: a transposed weight takes no memory.
        called: Whose last entry is the part of the model that is being called.
    """

    def __init__(self, known: Iterable[torch.UntypedStorage], called: Sequence[str]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._called = called
        self._users = weakref.WeakKeyDictionary(dict.fromkeys(known, ""))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it makes."""
        result = function(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self._users:
                self._users[storage] = self._called[-1]
                size = storage.nbytes()
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._release, size)
        return result

    def _release(self, size: int) -> None:
        self.live -= size

    @contextmanager
    def saving(self) -> Iterator[dict[str, int]]:
        """Within `with`, see who saves tensors for a backward pass; after it, the dict has what is kept by whom."""
        savers: weakref.WeakKeyDictionary[torch.UntypedStorage, str] = weakref.WeakKeyDictionary()

        def pack(tensor: Tensor) -> Tensor:
            savers.setdefault(tensor.untyped_storage(), self._called[-1])
            return tensor

        kept: dict[str, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield kept
        for storage, maker in self._users.items():  # of tensors that are still there
            if maker:
                part = savers.get(storage, maker)
                kept[part] = kept.get(part, 0) + storage.nbytes()


def _parts_called(model: nn.Module) -> list[str]:
    """Return a list whose last entry will be the part of a model that is being called."""
    called = [BETWEEN]

    def leave(*_: Any) -> None:
        called.pop()

    for name, module in model.named_modules():
        if name:
            label = ".".join([word for word in name.split(".") if not word.isdigit()][:_PATH])
            module.register_forward_pre_hook(lambda *_, label=label: called.append(label))
            module.register_forward_hook(leave, always_call=True)
    return called


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


def _tensors(inputs: dict[str, Any]) -> list[Any]:
    """Return what a batch consists of, targets taken apart."""
    leaves = tree_leaves(inputs)
    return [vars(leaf) if isinstance(leaf, SegmentationTarget) else leaf for leaf in leaves]


def _storages(tensors: Any) -> set[torch.UntypedStorage]:
    """Return the memory of tensors, each once, among other things."""
    return {leaf.untyped_storage() for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor)}
