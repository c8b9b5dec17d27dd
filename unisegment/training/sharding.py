# SPDX-License-Identifier: Apache-2.0
"""What is different where FSDP2 cuts each weight into one part for each process, so that the rest need not know.

Training steps see such weights as they are; evaluation and files get a model with whole ones.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import disable_fsdp_ram_efficient_loading
from torch import Tensor, nn

from unisegment.runs.settings import RecipeError
from unisegment.training.lora import merged

Model = TypeVar("Model", bound=nn.Module)


def settle_sharding(accelerator: Accelerator) -> None:
    """Let training with FSDP2 compute the same as without it; call it before the model is built.

    Raises:
        RecipeError: When accelerate is set to FSDP's first version.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return
    if not accelerator.is_fsdp2:
        raise RecipeError(
            "accelerate is set to FSDP's first version, which cannot be trained with. Set fsdp_version: 2, as in "
            "recipes/accelerate/fsdp2.yaml."
        )
    plugin = accelerator.state.fsdp_plugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    # accelerate would turn weights, inputs and the loss itself into bf16 or fp16, and add gradients up in it. Autocast,
    # as everywhere else, leaves in float32 what needs it.
    plugin.mixed_precision_policy = MixedPrecisionPolicy()
    # Saves memory while weights are read, but fails for models with buffers.
    plugin.cpu_ram_efficient_loading = False
    disable_fsdp_ram_efficient_loading()


def layer_names(model: nn.Module) -> list[str]:
    """Return the class names of the layers that FSDP2 gathers and lets go of one after the other.

    They are the layers that gradient checkpointing knows, too: those of decoders, and of backbones that
    transformers marks. Each is large enough for a message of its own; the rest of a model is gathered once a step.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    return sorted({type(part).__name__ for part in model.modules() if isinstance(part, GradientCheckpointingLayer)})


def without_weights(model: Model) -> Model:
    """Return a copy of a model that has its buffers, but no memory for its weights."""
    weights = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=False)
        for weight in model.parameters()
    }
    return copy.deepcopy(model, weights)


def with_whole_weights(model: Model, empty: Model) -> Model:
    """Return a plain model that has the weights of one that is cut up or has adapters; all processes call this.

    Args:
        model: What accelerate has prepared.
        empty: What `without_weights` and `without_adapters` made of it before; stays as it is.
    """
    whole_model = copy.deepcopy(empty)
    with torch.no_grad():
        weights = merged(model, {name: whole(weight) for name, weight in model.state_dict().items()})
    whole_model.load_state_dict(weights, assign=True)
    return whole_model.to(next(model.parameters()).device)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with the parts of all processes, which all call this; as it is, if it is not cut up."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, in the same memory and without a gradient."""
    from torch.distributed.tensor import DTensor

    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, which every process has, cut up as another one is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return tensor
    cut = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return own_part(cut)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise what went wrong in one of the processes that write a state, instead of a collection of all of it."""
    try:
        yield
    except BaseException as errors:
        from torch.distributed.checkpoint.api import CheckpointException

        if not isinstance(errors, CheckpointException):
            raise
        error, _ = next(iter(errors.failures.values()))
        raise error from None
