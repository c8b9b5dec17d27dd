# SPDX-License-Identifier: Apache-2.0
"""Files of weights in, tensors out; nothing that a file contains is ever executed.

Three kinds are told apart by their content, whatever their names: safetensors, what `torch.save` writes, and plain
pickles of numpy arrays, as Caffe2 and detectron2 write them.
"""

import collections
import math
import os
import pickle
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

_ENCLOSING_KEYS = ("model", "state_dict", "model_state_dict")
# What torch.save wrote before it wrote zip files: a pickled magic number first.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_NUMBER = re.compile(r"[biufc]\d{1,2}")
_NUMBER_NAMES = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")


def read_weight_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file of weights holds: tensors on the CPU, numbers, texts, and plain containers of them.

    Args:
        path: A `.safetensors`, `.pth`, `.pt`, `.bin` or `.pkl` file.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the file is damaged, or asks for anything else; no code from the file has run then.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    try:
        content = _reader(path)(path)
    except MemoryError:
        raise
    except Exception as error:  # what damaged files raise in three parsers is beyond listing
        raise ValueError(
            f"{str(path)!r} cannot be read as a file of weights: {_reason(error)} It is damaged, or asks for more than "
            "tensors, numbers, texts and plain containers. Nothing of it was executed."
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{str(path)!r} holds a {type(content).__name__} instead of weights under names.")
    return dict(content)


def weights_in(content: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the weights among what `read_weight_file` found: the whole, or what lies under `model` or `state_dict`.

    Args:
        content: What the file holds.
        path: The file, for errors.

    Raises:
        ValueError: When there are no weights, or something else is among them.
    """
    weights = content
    for key in _ENCLOSING_KEYS:
        if isinstance(content.get(key), Mapping):
            weights = content[key]
            break
    strange = [name for name, value in weights.items() if not isinstance(name, str) or not isinstance(value, Tensor)]
    if strange or not weights:
        found = f"{strange[0]!r} is a {type(weights[strange[0]]).__name__}" if strange else "there is nothing in it"
        raise ValueError(
            f"{os.fspath(path)!r} holds no weights: {found}. Expected tensors under names, at the top or under one of "
            f"{', '.join(_ENCLOSING_KEYS)}."
        )
    return dict(weights)


@contextmanager
def damage_named(name_or_path: Any) -> Iterator[None]:
    """Turn what transformers raises for damaged or hostile files into a ValueError that names the checkpoint."""
    try:
        yield
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
            raise
        raise ValueError(
            f"The weights of {str(name_or_path)!r} cannot be read: {_reason(error)} The file is damaged, or asks for "
            "more than tensors. Nothing of it was executed."
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error):
        # torch's own text advises to run the file, so only the name is taken from it.
        asked_for = re.search(r"GLOBAL (\S+)", str(error))
        return f"it asks for {asked_for[1]}." if asked_for else "its pickle is damaged."
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if text.endswith(".") else text + "."


def _reader(path: Path) -> Callable[[Path], Any]:
    """Tell the kind of a file by its first bytes."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith((b"PK\x03\x04", _OLD_TORCH)):
        return _read_torch
    # A safetensors file starts with the length of its JSON header.
    if len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= path.stat().st_size:
        return load_file
    return _read_pickle


def _read_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        return _tensors(_PlainUnpickler(file, encoding="latin1").load())


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows numpy arrays and plain containers, by stand-ins of our own, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 and Python 3 moved what older pickles name.
        place = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        known = _STAND_INS.get((place, name))
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}.")
        return known


class _Type:
    """Stands in for numpy.dtype: one kind of number."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not (_NUMBER.fullmatch(code) or _NUMBER_NAMES.fullmatch(code)):
            raise pickle.UnpicklingError(f"it holds values of type {code!r}, not numbers.")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray; `tensor` comes with the arguments or with the state."""

    tensor: Tensor

    def __init__(self, shape: tuple[int, ...] = (), kind: _Type | None = None, values: Any = b"") -> None:
        if kind is not None:
            self.tensor = _tensor(values, kind, shape, "C")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_column_major, values = state
        self.tensor = _tensor(values, kind, shape, "F" if is_column_major else "C")


def _tensor(values: Any, kind: _Type, shape: tuple[int, ...], order: Any) -> Tensor:
    raw = values.encode("latin-1") if isinstance(values, str) else bytes(values)
    if len(raw) != math.prod(shape) * kind.dtype.itemsize:
        raise pickle.UnpicklingError(f"an array of shape {shape} has {len(raw)} bytes.")
    array = np.frombuffer(raw, kind.dtype).reshape(shape, order=order)
    return torch.from_numpy(np.array(array, dtype=kind.dtype.newbyteorder("="), order="C"))


def _new_array(*_: Any) -> _Array:
    return _Array()


def _array_from_buffer(values: Any, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.tensor = _tensor(values, kind, shape, order)
    return array


def _no_bytes() -> bytes:
    """Stand in for bytes, by which old protocols spell the empty ones."""
    return b""


def _bytes(values: bytes = b"") -> bytes:
    """Stand in for bytearray."""
    if not isinstance(values, bytes):
        raise pickle.UnpicklingError(f"it makes bytes of a {type(values).__name__}.")
    return values


def _scalar(kind: _Type, values: Any) -> _Array:
    return _array_from_buffer(values, kind, (), "C")


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for _codecs.encode, by which old protocols spell bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes a text as {encoding!r}.")
    return text.encode("latin-1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _latin1,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "bytearray"): _bytes,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array_from_buffer,
}


def _tensors(content: Any) -> Any:
    """Replace the stand-ins for arrays by tensors."""
    if isinstance(content, _Array):
        return content.tensor
    if isinstance(content, Mapping):
        return {key: _tensors(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_tensors(value) for value in content]
    return content
