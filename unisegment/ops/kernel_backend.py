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
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, cast, get_args

import torch

from unisegment.errors import ForeseenError
from unisegment.ops.kernel_build import (
    LIBRARY,
    NAMESPACE,
    Capability,
    KernelUnavailableError,
    architectures_for,
    architectures_of,
    cached_library,
    has_code_for,
    instruction_sets,
)

Backend = Literal["auto", "native", "torch"]
ENVIRONMENT_VARIABLE = "UNISEGMENT_KERNELS"
DEMANDED = f"The compiled ms_deform_attn kernel is demanded (backend or {ENVIRONMENT_VARIABLE} is 'native')"
_WORDS = get_args(Backend)
_BUILT_HERE = "built on this machine"


class BackendError(ForeseenError, RuntimeError):
    """What is demanded cannot run here, or UNISEGMENT_KERNELS has no meaning; the message is the reason."""


@dataclass(frozen=True)
class Kernel:
    """A loaded library. It has code for the CPU, and for GPUs where they and nvcc were found.

    Args:
        library: The file.
        origin: Where it comes from, in words.
        instruction_sets: What it has loops for.
        architectures: Of GPUs that it has code for.
        gpus: Whether it has code for each GPU that torch can use, in torch's order.
        gpu_gap: Why not for all of them; or that there is none.
        functions: The Python package around its operators.
    """

    library: Path
    origin: str
    instruction_sets: tuple[str, ...]
    architectures: tuple[str, ...]
    gpus: tuple[bool, ...]
    gpu_gap: str
    functions: ModuleType

    def gap(self, device: torch.device | None) -> str | None:
        """Return why there is no code for this device, if it is a GPU."""
        if device is None or device.type != "cuda":
            return None
        index = device.index or 0
        return None if index < len(self.gpus) and self.gpus[index] else f"it has no code for {device}: {self.gpu_gap}"


_found: Kernel | str | None = None
_finding = threading.RLock()
if hasattr(os, "register_at_fork"):  # not on Windows
    # A fork waits while another thread loads: its process would have half a library, and a lock that nobody opens.
    os.register_at_fork(before=_finding.acquire, after_in_parent=_finding.release, after_in_child=_finding.release)


def wished_backend(backend: Backend = "auto") -> Backend:
    """Return what is asked for, by argument or by UNISEGMENT_KERNELS.

    Raises:
        ValueError: For an argument other than auto, native and torch.
        BackendError: When the variable is something else.
    """
    if backend not in _WORDS:
        raise ValueError(f"backend takes auto, native or torch, got {backend!r}.")
    wish = os.environ.get(ENVIRONMENT_VARIABLE, "auto") if backend == "auto" else backend
    if wish not in _WORDS:
        raise BackendError(
            f"The environment variable {ENVIRONMENT_VARIABLE} takes auto, native or torch, got {wish!r}."
        )
    return cast(Backend, wish)


def resolve_backend(backend: Backend = "auto", device: torch.device | None = None) -> Literal["native", "torch"]:
    """Return what runs for tensors that the kernel has code for, on any device or on this one.

    The first call of a process may build the kernel, which takes some seconds. "auto" warns, once, where it cannot.

    Raises:
        ValueError: For an argument other than auto, native and torch.
        BackendError: When the variable is something else; when the kernel is demanded and there is none, or none for
            this device.
    """
    wish = wished_backend(backend)
    if wish == "torch":
        return "torch"
    kernel = find_kernel()
    reason = kernel.gap(device) if isinstance(kernel, Kernel) else kernel
    if reason is None:
        if device is not None and device.type == "cpu" and torch.get_num_threads() > 1:
            _leave_one_thread_to_forked_processes()
        return "native"
    if wish == "native":
        raise BackendError(f"{DEMANDED}, and cannot be had: {reason}")
    _warn_once(reason)
    return "torch"


def prepare_backend() -> None:
    """Find the kernel, which may build it, before tensors come; unless a look at the GPUs here would start CUDA.

    Processes that are forked from one in which CUDA runs cannot use it, and `notebook_launcher` of accelerate refuses
    to start them. The first forward then finds the kernel.
    """
    if torch.version.cuda is None or torch.cuda.is_initialized():
        resolve_backend()


def describe_backend() -> list[tuple[str, str]]:
    """Return what `unisegment info` says: what will run and why, and what is built, as (name, text) lines."""
    setting = f"{ENVIRONMENT_VARIABLE}={os.environ.get(ENVIRONMENT_VARIABLE, 'auto')}"
    try:
        wish = wished_backend()
    except BackendError as error:
        return [("ms_deform_attn", f"error: {error}")]
    kernel = None if wish == "torch" else find_kernel()
    instead = "error: native is demanded and cannot be had" if wish == "native" else "torch, plain PyTorch"
    if isinstance(kernel, Kernel):
        runs, built = kernel.functions.cpu_capability(), ", ".join(kernel.instruction_sets)
        where = f"{runs} (of {built}), {kernel.origin}: {kernel.library}"
        return [
            ("ms_deform_attn", f"native, the compiled kernel; {setting}"),
            ("kernel", where),
            ("kernel_on_gpus", _describe_gpus(kernel, instead)),
        ]
    reason = "as asked for" if kernel is None else _in_one_line(kernel)
    return [("ms_deform_attn", f"{instead}: {reason}; {setting}")]


def _describe_gpus(kernel: Kernel, instead: str) -> str:
    """Return for which GPUs the library is built, and what runs on those that are here."""
    built = f"built for {', '.join(kernel.architectures) or 'none'}"
    runs = [f"cuda:{index} {'native' if covered else instead}" for index, covered in enumerate(kernel.gpus)]
    return "; ".join([built, *runs, *([_in_one_line(kernel.gpu_gap)] if kernel.gpu_gap else [])])


def _in_one_line(reason: str) -> str:
    """Shorten a reason, which may hold a compiler's whole output."""
    return " ".join(reason.split()).rstrip(".")


def find_kernel() -> Kernel | str:
    """Return the kernel, or the reason why there is none; found, built and loaded by the first call of a process."""
    global _found
    if _found is None:
        with _finding:
            if _found is None:  # and no other thread has been quicker
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
    gpus = _gpus()
    library, origin, gpu_gap = _choose_library(folder, gpus)
    try:
        torch.ops.load_library(library)
    except OSError as error:
        raise KernelUnavailableError(f"{library} cannot be loaded: {error.__cause__ or error}.") from error
    architectures = architectures_of(library)
    covered = tuple(has_code_for(architectures, gpu) for gpu in gpus)
    return Kernel(library, origin, instruction_sets(), architectures, covered, gpu_gap, _import_wrapper(wrapper))


def _gpus() -> list[Capability]:
    """Return what each GPU can do that torch can use with CUDA (a torch for ROCm calls its own devices cuda, too)."""
    if torch.version.cuda is None or not torch.cuda.is_available():
        return []
    try:
        return [torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())]
    except RuntimeError:  # CUDA cannot start here, as in a process forked from one where it has: no tensor can be on it
        return []


def _choose_library(folder: Path, gpus: list[Capability]) -> tuple[Path, str, str]:
    """Return a library with code for all these GPUs if it can be had, where it is from, and why it has no such code."""
    delivered = next(iter(sorted(folder.glob(f"{Path(LIBRARY).stem}*.so"))), None)
    gap = "" if gpus else "torch finds no NVIDIA GPU that it can use."
    if delivered and all(has_code_for(architectures_of(delivered), gpu) for gpu in gpus):
        return delivered, "from the wheel", gap
    if gpus:
        try:
            return cached_library(folder, architectures_for(gpus)), _BUILT_HERE, gap
        except KernelUnavailableError as error:
            gap = str(error)
    # Tensors on the CPU must not suffer from what GPUs lack.
    return (delivered, "from the wheel", gap) if delivered else (cached_library(folder), _BUILT_HERE, gap)


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
def _leave_one_thread_to_forked_processes() -> None:
    """Let processes that will be forked from this one run torch in one thread, as workers of a DataLoader do.

    The kernel's threads are torch's own, which a forked process remembers and does not have: the first loop in several
    threads, of the kernel or of torch itself, would wait for them for ever.
    """
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"ms_deform_attn runs in plain PyTorch, slower and in more memory than its compiled kernel: {reason} "
        f"{ENVIRONMENT_VARIABLE}=torch asks for that and needs no warning.",
        RuntimeWarning,
        stacklevel=3,
    )
