# SPDX-License-Identifier: Apache-2.0
"""Which implementation of `ms_deform_attn` runs: the compiled kernel, found, built and loaded here, or plain PyTorch.

====== ===============================================================================================
auto   the kernel where there is one and it has code for the tensors, plain PyTorch elsewhere
native the kernel, or an error that says why not
torch  plain PyTorch
====== ===============================================================================================

One of these words comes as an argument. Where that is "auto", the environment variable UNISEGMENT_KERNELS may say more.
"""

import functools
import importlib.util
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

import torch

from unisegment.ops.kernel_build import LIBRARY, NAMESPACE, KernelUnavailableError, cached_library, instruction_sets

Backend = Literal["auto", "native", "torch"]
ENVIRONMENT_VARIABLE = "UNISEGMENT_KERNELS"
DEMANDED = f"The compiled ms_deform_attn kernel is demanded (backend or {ENVIRONMENT_VARIABLE} is 'native')"


@dataclass(frozen=True)
class Kernel:
    """A loaded library.

    Args:
        library: The file.
        origin: Where it comes from, in words.
        instruction_sets: What it has loops for.
        functions: The Python package around its operators.
    """

    library: Path
    origin: str
    instruction_sets: tuple[str, ...]
    functions: ModuleType


_found: Kernel | str | None = None


def wished_backend(backend: Backend = "auto") -> Backend:
    """Return what is asked for, by argument or by UNISEGMENT_KERNELS.

    Raises:
        ValueError: For a word other than auto, native and torch.
    """
    wish = os.environ.get(ENVIRONMENT_VARIABLE, "auto") if backend == "auto" else backend
    if wish not in ("auto", "native", "torch"):
        raise ValueError(f"backend and {ENVIRONMENT_VARIABLE} take auto, native or torch, got {wish!r}.")
    return cast(Backend, wish)


def resolve_backend(backend: Backend = "auto") -> Literal["native", "torch"]:
    """Return what runs for tensors that the kernel has code for.

    The first call of a process may build the kernel, which takes some seconds. "auto" warns, once, where it cannot.

    Raises:
        ValueError: For a word other than auto, native and torch.
        RuntimeError: When the kernel is demanded and there is none.
    """
    wish = wished_backend(backend)
    if wish == "torch":
        return "torch"
    kernel = find_kernel()
    if isinstance(kernel, Kernel):
        return "native"
    if wish == "native":
        raise RuntimeError(f"{DEMANDED}, and cannot be had: {kernel}")
    _warn_once(kernel)
    return "torch"


def describe_backend() -> list[tuple[str, str]]:
    """Return what `unisegment info` says: what will run and why, and what is built, as (name, text) lines."""
    setting = f"{ENVIRONMENT_VARIABLE}={os.environ.get(ENVIRONMENT_VARIABLE, 'auto')}"
    try:
        wish = wished_backend()
    except ValueError as error:
        return [("ms_deform_attn", f"error: {error}")]
    kernel = None if wish == "torch" else find_kernel()
    if isinstance(kernel, Kernel):
        runs, built = kernel.functions.cpu_capability(), ", ".join(kernel.instruction_sets)
        where = f"{runs} (of {built}), {kernel.origin}: {kernel.library}"
        return [("ms_deform_attn", f"native, the compiled kernel; {setting}"), ("kernel", where)]
    # The reason may hold a compiler's whole output.
    reason = "as asked for" if kernel is None else " ".join(kernel.split()).rstrip(".")
    chosen = "error: native is demanded and cannot be had" if wish == "native" else "torch, plain PyTorch"
    return [("ms_deform_attn", f"{chosen}: {reason}; {setting}")]


def find_kernel() -> Kernel | str:
    """Return the kernel, or the reason why there is none; found, built and loaded by the first call of a process."""
    global _found
    if _found is None:
        try:
            _found = _load(kernel_folder())
        except KernelUnavailableError as error:
            _found = str(error)
    return _found


def kernel_folder() -> Path:
    """Return where the sources are: in the installed package, or in the repository that it is imported from."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "_kernels" / "ms_deform_attn"
    return packaged if packaged.is_dir() else package.parent / "kernels" / "ms_deform_attn"


@functools.cache  # a process must never load two libraries that register the same operators
def _load(folder: Path) -> Kernel:
    wrapper = folder / "torch-ext" / NAMESPACE / "__init__.py"
    if not wrapper.is_file():
        raise KernelUnavailableError(f"this installation of unisegment lacks the kernel's sources ({folder}).")
    library, origin = folder / LIBRARY, "from the wheel"
    if not library.is_file():
        library, origin = cached_library(folder), "built on this machine"
    try:
        torch.ops.load_library(library)
    except OSError as error:
        raise KernelUnavailableError(f"{library} cannot be loaded: {error.__cause__ or error}.") from error
    return Kernel(library, origin, instruction_sets(), _import_wrapper(wrapper))


def _import_wrapper(path: Path) -> ModuleType:
    """Import the Python package around the operators. It finds them in a module `_ops`, here as on the Hub."""
    operators = ModuleType(f"{NAMESPACE}._ops")
    operators.__dict__["ops"] = getattr(torch.ops, NAMESPACE)
    operators.__dict__["add_op_namespace_prefix"] = lambda name: f"{NAMESPACE}::{name}"
    spec = importlib.util.spec_from_file_location(NAMESPACE, path, submodule_search_locations=[str(path.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.update({NAMESPACE: module, operators.__name__: operators})
    spec.loader.exec_module(module)
    return module


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"ms_deform_attn runs in plain PyTorch, several times slower than its compiled kernel: {reason} "
        f"{ENVIRONMENT_VARIABLE}=torch asks for that and needs no warning.",
        RuntimeWarning,
        stacklevel=3,
    )
