# SPDX-License-Identifier: Apache-2.0
"""A device that is none: code runs "on" it on any machine, and what it does there is written down.

Its tensors hold ordinary ones of the CPU, so that random numbers and results are bit for bit the CPU's. Torch takes
them for tensors of another device, `DEVICE`: what is not sent there does not get there, tensors of both kinds do not
mix, and what is read from there has to be copied. On a GPU each such copy, and each operation whose result has a size
that depends on values, waits for all work that was queued before: a synchronisation.
"""

import traceback
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

HOST = torch.device("cpu")
DEVICE = torch.device("cpu", 0)
"""Another device than `HOST` for torch, with all that the CPU has: autocast, generators and autograd."""

PACKAGE = str(Path(__file__).parents[1] / "unisegment")
ATEN = torch.ops.aten
INDEXING = (ATEN.index, ATEN.index_put, ATEN.index_put_)


class PretendedTensor(Tensor):
    """A tensor on `DEVICE`."""

    @staticmethod
    def __new__(cls, held):
        form = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        return Tensor._make_wrapper_subclass(cls, held.shape, **form, device=DEVICE)

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"PretendedTensor({self.held})"

    def tolist(self):  # torch's own reads the memory of every tensor that says it is on a CPU
        return self.cpu().tolist()

    def as_subclass(self, cls):  # a tensor has one class: what becomes another one has arrived
        return self.held.as_subclass(cls)

    # With these two, `Module.to` puts a new parameter in the place of the old one.
    def __tensor_flatten__(self):
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return PretendedTensor(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


class Record(TorchDispatchMode):
    """Within `with`, `DEVICE` can be used, and this says what happened there.

    Attributes:
        synchronisations: How often each "file:line operation" made the CPU wait for the device; "elsewhere" is code
            that no line of the library called.
        float64: The same for operations that made a float64 tensor on the device.
    """

    def __init__(self):
        super().__init__()
        self.synchronisations, self.float64 = Counter(), Counter()
        self.numbers = SendsNumbers(self.synchronisations)

    def __enter__(self):
        self.numbers.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.numbers.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = run(function, args, kwargs)
        made = on_device(result)
        if any(tensor.dtype == torch.float64 for tensor in made):
            self.float64[f"{place()} {function}"] += 1
        if waits(function, args, kwargs, made):
            self.synchronisations[f"{place()} {function}"] += 1
        return result


class SendsNumbers(TorchFunctionMode):
    """Sends numbers to `DEVICE` by what is seen: torch does it where no mode can see it.

    It makes tensors of numbers on the CPU and sends them. A number that is assigned to one element is sent by CUDA
    (`python_variable_indexing.cpp` and `copy_to` in `TensorIndexing.h`), while several elements are filled.
    """

    def __init__(self, synchronisations):
        super().__init__()
        self.synchronisations = synchronisations

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is Tensor.__setitem__ and isinstance(args[0], PretendedTensor):
            target, place_in_it, value = args
            if not isinstance(value, Tensor) and target.held[place_in_it].ndim == 0:
                self.synchronisations[f"{place()} assignment of a number"] += 1
        if function not in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            return function(*args, **kwargs)
        device = kwargs.pop("device", None)
        if function is Tensor.new_tensor:
            like, *args = args
            device, kwargs = device or like.device, {"dtype": like.dtype, **kwargs}
            function = torch.tensor
        made = function(*args, **kwargs)
        return made if device is None else made.to(device)


def run(function, args, kwargs):
    """Run an operation on what its tensors hold, and bring its results to the device where they belong."""
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    pretended = on_device(leaves)
    is_copy = function in (ATEN._to_copy.default, ATEN.copy_.default)
    may_mix = is_copy or function.overloadpacket in INDEXING
    if pretended and not may_mix and any(leaf.ndim for leaf in leaves if not isinstance(leaf, PretendedTensor)):
        raise RuntimeError(f"{function} got tensors of two devices, {DEVICE} and {HOST}, at {place()}.")
    held_args, held_kwargs = tree_map(
        lambda leaf: leaf.held if isinstance(leaf, PretendedTensor) else leaf, (args, kwargs)
    )
    goes_there = isinstance(args[0], PretendedTensor) if is_copy else bool(pretended)
    if kwargs.get("device") is not None:
        goes_there = torch.device(kwargs["device"]) == DEVICE
        held_kwargs["device"] = HOST
    result = function(*held_args, **held_kwargs)
    if not goes_there:
        return result
    result = tree_map(lambda leaf: PretendedTensor(leaf) if isinstance(leaf, Tensor) else leaf, result)
    stays = not is_copy or function is ATEN.copy_.default
    return return_and_correct_aliasing(function, args, kwargs, result) if stays else result


def waits(function, args, kwargs, made):
    """Tell whether a GPU would have to be waited for, by the rules of `torch.cuda.set_sync_debug_mode`."""
    pretended = on_device((args, kwargs))
    if function is ATEN._to_copy.default:
        is_sent = bool(made) and not pretended
        return (bool(pretended) and not made) or (is_sent and not kwargs.get("non_blocking"))
    if function is ATEN.copy_.default and len(pretended) == 1:
        return not (isinstance(args[0], PretendedTensor) and (args[2:3] == (True,) or kwargs.get("non_blocking")))
    if not pretended:
        return False
    if function.overloadpacket in INDEXING:  # places that are looked for, or sent
        indices = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor)]
        return any(index.dtype == torch.bool or not isinstance(index, PretendedTensor) for index in indices)
    return bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(function.tags))


def on_device(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, PretendedTensor)]


def place():
    """Return the innermost line of the library that is being run."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"
