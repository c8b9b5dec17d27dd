# SPDX-License-Identifier: Apache-2.0
"""Files of weights in, tensors out; nothing that a file contains is ever executed.

Three kinds are told apart by their content, whatever their names: safetensors, what `torch.save` writes, and plain
pickles of numpy arrays, as Caffe2 and detectron2 write them.
"""

import collections
import io
import math
import mmap
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unisegment.ops.pickle_scan import require_bounded

_ENCLOSING_KEYS = ("model", "state_dict", "model_state_dict")
# What torch.save wrote before it wrote zip files: a pickled magic number first.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_OLD_TORCH_PICKLES = 5
_ZIP = b"PK\x03\x04"
_MOST_SHARED, _SMALL = 4, 2**20
"""How many times the length of its file all weights together may have, and bytes that they may have in any file."""
_NUMBER = re.compile(r"[biufc]\d{1,2}")
_NUMBER_NAMES = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")


def read_weight_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file of weights holds: tensors on the CPU, numbers, texts, and plain containers of them.

    Args:
        path: A `.safetensors`, `.pth`, `.pt`, `.bin` or `.pkl` file.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When the file is damaged, asks for anything else, or would grow when it is read; no code from the
            file has run then.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    with _parsing(path):
        content = _reader(path)(path)
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
    _check_sizes(list(weights.values()), Path(path))
    return dict(weights)


def _check_sizes(tensors: list[Tensor], path: Path) -> None:
    """Raise a ValueError when weights are no plain numbers, or more than a file of that length can hold.

    Those of a file may share their memory, all numbers of one even be the same one in memory; copies of them do not.
    """
    length, strange = path.stat().st_size, [tensor for tensor in tensors if tensor.layout is not torch.strided]
    if strange or any(tensor.is_quantized for tensor in tensors):
        raise ValueError(f"{str(path)!r} holds sparse or quantised tensors, expected plain ones.")
    copied = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if copied > _MOST_SHARED * length + _SMALL:
        raise ValueError(
            f"{str(path)!r} has {length} bytes, but its weights are {copied} when each has its own memory: expected at "
            f"most {_MOST_SHARED} times the file."
        )


def require_sound(path: str | os.PathLike[str]) -> None:
    """Check a file of `torch.save` that another library is about to read, without reading its weights.

    Raises:
        ValueError: When the file is none or damaged, asks for more than weights, or would grow when it is read.
    """
    path = Path(path)
    with _parsing(path):
        if _reader(path) is not _read_torch:
            raise pickle.UnpicklingError("torch.save did not write it.")
        _check_torch(path)
        content = torch.load(path, map_location="meta", weights_only=True)
        if not isinstance(content, Mapping):
            raise pickle.UnpicklingError(f"it holds a {type(content).__name__} instead of weights under names.")
    _check_sizes([value for value in content.values() if isinstance(value, Tensor)], path)


@contextmanager
def damage_named(name_or_path: Any) -> Iterator[None]:
    """Turn what transformers raises for damaged or hostile files into a ValueError that names the checkpoint."""
    try:
        yield
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
            raise
        raise ValueError(_damage(f"The weights of {str(name_or_path)!r} cannot be read", error)) from error


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:  # what damaged files raise in three parsers is beyond listing
        raise ValueError(_damage(f"{str(path)!r} cannot be read as a file of weights", error)) from error


def _damage(complaint: str, error: Exception) -> str:
    return (
        f"{complaint}: {_reason(error)} The file is damaged, or asks for more than tensors, numbers, texts and plain "
        "containers. Nothing of it was executed."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error):
        # torch's own text advises to run the file, so only the name is taken from it.
        asked_for = re.search(r"GLOBAL (\S+)", str(error))
        return f"it asks for {asked_for[1]}." if asked_for else "its pickle is damaged."
    text = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return text if text.endswith(".") else text + "."


def _reader(path: Path) -> Callable[[Path], Any]:
    """Tell the kind of a file by its first bytes."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith((_ZIP, _OLD_TORCH)):
        return _read_torch
    # A safetensors file starts with the length of its JSON header.
    if len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= path.stat().st_size:
        return load_file
    return _read_pickle


def _read_torch(path: Path) -> Any:
    _check_torch(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_torch(path: Path) -> None:
    """Raise when a file that `torch.save` may have written would grow."""
    with path.open("rb") as file:
        is_zip = file.read(len(_ZIP)) == _ZIP
    if zipfile.is_zipfile(path) != is_zip:
        raise pickle.UnpicklingError("it is a zip file to some readers alone.")
    if not is_zip:
        _check_pickles(path, _OLD_TORCH_PICKLES)
        return
    with zipfile.ZipFile(path) as archive:
        unpacked, length = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
        if unpacked > length:
            raise pickle.UnpicklingError(f"its {length} bytes unpack to {unpacked}, but torch.save compresses nothing.")
        for entry in archive.infolist():
            if entry.filename.endswith(".pkl"):
                require_bounded(io.BytesIO(archive.read(entry)), entry.file_size)


def _check_pickles(path: Path, count: int) -> None:
    """Raise when one of the pickles at the beginning of a file would grow."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for _ in range(count):
            require_bounded(mapped, len(mapped))


def _read_pickle(path: Path) -> Any:
    _check_pickles(path, 1)
    with path.open("rb") as file:
        return _tensors(_PlainUnpickler(file, encoding="latin1").load(), {})


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


def _tensors(content: Any, done: dict[int, Any]) -> Any:
    """Replace the stand-ins for arrays by tensors.

    Args:
        content: What was read.
        done: By id, what containers have become already; several places may hold the same one, or one itself.
    """
    if isinstance(content, _Array):
        return content.tensor
    if id(content) in done:
        return done[id(content)]
    if isinstance(content, Mapping):
        mapping = done[id(content)] = {}
        mapping.update({key: _tensors(value, done) for key, value in content.items()})
        return mapping
    if isinstance(content, list | tuple):
        entries = done[id(content)] = []
        entries.extend(_tensors(value, done) for value in content)
        return entries
    return content
