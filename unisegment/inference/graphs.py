# SPDX-License-Identifier: Apache-2.0
"""A model on a GPU in; the same model out, whose passes are recorded in CUDA graphs and replayed.

A pass is more than a thousand kernels, and to launch them one by one takes the CPU longer than the GPU takes to compute
a few images. A recorded pass is one launch, of the same kernels: results are the same bits.
"""

import logging
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from unisegment.ops.tf32 import is_tf32_allowed

MOST_PIXELS = 8 << 20
"""Of a batch whose pass is recorded: beyond that the GPU is what is waited for."""
MOST_RECORDINGS = 16
"""Sizes of batches that are recorded. Each keeps its input and output; what lies between shares its memory."""
RECORDED_AT = 3
"""Which pass of a size is recorded: images that all differ in size gain nothing."""

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Recording:
    """A pass that can be replayed: what it reads and writes stays where it is."""

    inputs: Inputs
    outputs: Any
    replay: Callable[[], None]


class GraphedNetwork:
    """A model that replays its forward pass where it is on a GPU, and computes as ever everywhere else.

    It does so for batches of at most `MOST_PIXELS` pixels of sizes that come again and again, as long as nothing else
    runs beside the model: hooks on its modules, gradients, weights that are no plain tensors. Weights may change in
    place; where they are moved or exchanged, all is recorded anew. Each recording is replayed once and compared with
    the model before it is used: after any difference the model computes as ever.

    Args:
        model: In evaluation mode.
        record: Makes a recording; tests have one for CPUs.
    """

    def __init__(self, model: nn.Module, record: Callable[[nn.Module, Inputs, Any], Recording] | None = None) -> None:
        self.model = model
        self._record = record
        self._passes: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, Recording] = {}
        self._state: Hashable = None
        self._pool: Any = None
        self._is_able = True
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model, self._record)  # recordings belong to a process

    def __call__(self, **inputs: Tensor) -> Any:
        """Return the model's output.

        Args:
            inputs: Of the model, by name.
        """
        with self._lock:
            recording = self._recording_for(inputs)
            if recording is None:
                return self.model(**inputs)
            for name, tensor in inputs.items():
                recording.inputs[name].copy_(tensor, non_blocking=True)
            recording.replay()
            return tree_map_only(Tensor, Tensor.clone, recording.outputs)  # the next replay writes there

    def _recording_for(self, inputs: Inputs) -> Recording | None:
        images = inputs["pixel_values"]
        can_record = self._record is not None or _is_on_default_stream(images)
        if not (can_record and self._is_able) or torch.is_grad_enabled():
            return None
        if len(images) * images.shape[2] * images.shape[3] > MOST_PIXELS:
            return None
        state = _state_of(self.model)
        if state != self._state:
            self._state, self._pool = state, None
            self._recordings.clear()
            self._passes.clear()
        if state is None:
            return None
        kinds = tuple((name, tensor.shape, tensor.dtype, tensor.device) for name, tensor in inputs.items())
        key = (*kinds, torch.is_inference_mode_enabled(), is_tf32_allowed())
        if key not in self._recordings and len(self._recordings) < MOST_RECORDINGS:
            self._passes[key] += 1
            if self._passes[key] >= RECORDED_AT:
                self._try_to_record(key, inputs)
        return self._recordings.get(key)

    def _try_to_record(self, key: Hashable, inputs: Inputs) -> None:
        try:
            if self._record is None and self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            recording = (self._record or record)(self.model, inputs, self._pool)
            recording.replay()
            if not _are_equal(recording.outputs, self.model(**inputs)):
                raise RuntimeError("A replay gives other results")
            self._recordings[key] = recording
        except RuntimeError as error:
            self._is_able = False
            logging.getLogger(__name__).warning(
                "The model's pass cannot be recorded in a CUDA graph, so that its kernels are launched one by one: %s.",
                str(error).splitlines()[0].rstrip("."),
            )


def record(model: nn.Module, inputs: Inputs, pool: Any = None) -> Recording:
    """Record one pass.

    Args:
        model: On a GPU, in evaluation mode.
        inputs: By name; they are copied.
        pool: Memory that several recordings share, which are never replayed at the same time.

    Raises:
        RuntimeError: When the pass does what cannot be recorded, such as to wait for the GPU, or memory runs out.
    """
    fixed = {name: tensor.clone() for name, tensor in inputs.items()}
    device = fixed["pixel_values"].device
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # what libraries set up at their first call must not be recorded
            model(**fixed)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those that load images, may go on.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            outputs = model(**fixed)
    return Recording(fixed, outputs, graph.replay)


def _are_equal(outputs: Any, others: Any) -> bool:
    pairs = zip(tree_leaves(outputs), tree_leaves(others), strict=True)
    return all(torch.equal(one, other) for one, other in pairs if isinstance(one, Tensor))


def _is_on_default_stream(tensor: Tensor) -> bool:
    """Return whether calls follow one another: recordings share their memory, and must not run at the same time."""
    return tensor.is_cuda and torch.cuda.current_stream(tensor.device) == torch.cuda.default_stream(tensor.device)


def _state_of(model: nn.Module) -> Hashable:
    """Return where all weights lie and which constants have changed; None where something runs beside the model."""
    places: list[int] = []
    for module in model.modules():
        hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        # Those of transformers itself only collect outputs that are asked for. Those of accelerate move weights.
        if hasattr(module, "_hf_hook") or any(not hook.__module__.startswith("transformers.") for hook in hooks):
            return None
        for weight in module._parameters.values():
            if weight is None:
                continue
            if type(weight) is not nn.Parameter:
                return None
            places.append(weight.data_ptr())
        for constant in module._buffers.values():
            if constant is not None:  # a pass may do what its value says, not only read it
                places += constant.data_ptr(), 0 if constant.is_inference() else constant._version
    return tuple(places)
