# SPDX-License-Identifier: Apache-2.0
"""States of which every process has its part, as FSDP2 and DeepSpeed keep them: written, and read without execution.

Both read with pickle by themselves: FSDP2's list of what lies where, and everything of DeepSpeed's.
"""

import importlib
import mmap
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import load_fsdp_model, load_fsdp_optimizer, save_fsdp_model, save_fsdp_optimizer
from torch.optim import Optimizer

from unisegment.ops.pickle_scan import require_bounded
from unisegment.runs.settings import RecipeError
from unisegment.training.sharding import plain_errors

_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""Lets `torch.load` make nothing but tensors, numbers, texts and containers, whatever its caller asks for."""
_DEEPSPEED_FOLDER = "pytorch_model"
# What DeepSpeed saves besides: a loss scale, the ZeRO stage, and where parts lie. All of them only hold numbers.
_DEEPSPEED_CLASSES = {
    "deepspeed.runtime.fp16.loss_scaler": ("LossScaler", "DynamicLossScaler"),
    "deepspeed.runtime.zero.config": ("ZeroStageEnum",),
    "deepspeed.utils.tensor_fragment": ("fragment_address",),
}
_LISTED = {
    *(("torch.distributed.checkpoint.filesystem", name) for name in ("_StorageInfo", "_StoragePrefix")),
    *(("torch.distributed.checkpoint.metadata", name) for name in ("Metadata", "MetadataIndex", "StorageMeta")),
    *(("torch.distributed.checkpoint.metadata", name) for name in ("TensorProperties", "_MEM_FORMAT_ENCODING")),
    *(("torch.distributed.checkpoint.metadata", f"{name}StorageMetadata") for name in ("Bytes", "Chunk", "Tensor")),
    *(("torch", "Size"), ("torch.serialization", "_get_layout"), ("collections", "OrderedDict")),
    *((module, f"{kind}Path") for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
}
"""What the list of FSDP2 is made of; all of it only holds numbers and texts."""


def is_in_parts(accelerator: Accelerator) -> bool:
    """Tell whether every process has its part of the weights or of what the optimiser knows."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def save_parts(accelerator: Accelerator, model: Any, optimizer: Optimizer, folder: Path) -> None:
    """Write weights and moments; all processes call this.

    Args:
        accelerator: What has prepared the next two.
        model: What is trained.
        optimizer: Its optimiser.
        folder: That of the state.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        model.save_checkpoint(str(folder), _DEEPSPEED_FOLDER)
        return
    plugin = accelerator.state.fsdp_plugin
    save_fsdp_model(plugin, accelerator, model, str(folder))
    save_fsdp_optimizer(plugin, accelerator, optimizer, model, str(folder))


def load_parts(accelerator: Accelerator, model: Any, optimizer: Optimizer, folder: Path) -> None:
    """Take over weights and moments; all processes call this.

    Args:
        accelerator: As for `save_parts`, as the other arguments.
        model: What is trained.
        optimizer: Its optimiser.
        folder: That of the state.

    Raises:
        RecipeError: When they are not there, damaged, or more than data.
    """
    with _only_data(folder):
        if accelerator.distributed_type == DistributedType.DEEPSPEED:
            with torch.serialization.safe_globals(_deepspeed_classes()):
                model.load_checkpoint(str(folder), _DEEPSPEED_FOLDER)
            return
        for file in sorted(folder.glob("*/*.metadata")):
            _check_list(file)
        plugin = accelerator.state.fsdp_plugin
        load_fsdp_model(plugin, accelerator, model, str(folder))
        load_fsdp_optimizer(plugin, accelerator, optimizer, model, str(folder))


@contextmanager
def _only_data(folder: Path) -> Iterator[None]:
    before = os.environ.get(_FORCED)
    os.environ[_FORCED] = "1"
    try:
        with plain_errors():
            yield
    except Exception as error:  # what damaged files raise in two readers of others is beyond listing
        text = str(error).partition("\n")[0][:300].rstrip(".")
        # PyTorch's own text advises to run the file.
        reason = "it asks for more than data" if "weights_only" in text else text or type(error).__name__
        raise RecipeError(
            f"{folder} cannot be read: {reason}. Nothing of it was executed. Use the settings of accelerate that it "
            "was saved with, or remove this folder: the same command then goes on from the state before it."
        ) from error
    finally:
        if before is None:
            del os.environ[_FORCED]
        else:
            os.environ[_FORCED] = before


def _deepspeed_classes() -> list[Any]:
    found = []
    for module, names in _DEEPSPEED_CLASSES.items():
        imported = importlib.import_module(module)
        found += [getattr(imported, name) for name in names if hasattr(imported, name)]
    return found


def _check_list(file: Path) -> None:
    """Refuse a list that asks for more than data: PyTorch hands it to pickle as it is."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        require_bounded(mapped, len(mapped))
        _ListUnpickler(stream).load()


class _StandIn:
    """Takes the place of whatever a list is made of, so that nothing of it is made."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _ListUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and (module, name) not in _LISTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _StandIn
