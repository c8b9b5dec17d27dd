# SPDX-License-Identifier: Apache-2.0
"""Stage: the kernels once more with other sizes of blocks, to see which this GPU likes best.

Each variant is a library of its own whose operators have a namespace of their own, so that one process times all of
them on the same tensors. Only what is for GPUs is compiled, all variants at once.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from emulation import build_emulator
from gpu_report.measure import HEAD_START, milliseconds
from gpu_report.rows import Row, failure
from gpu_report.settings import Settings
from gpu_report.small_case import make_case

from unisegment.ops.kernel_backend import kernel_folder
from unisegment.ops.kernel_build import _find_nvcc

_SOURCES = ("csrc/cuda/launch.cu", "csrc/cuda/ms_deform_attn_cuda.cpp", "torch-ext/torch_binding.cpp")


@dataclass(frozen=True)
class Variant:
    """The kernels with some numbers changed.

    Args:
        name: In words.
        macros: Of csrc/cuda/geometry.cuh, without their common beginning.
    """

    name: str
    macros: dict[str, int] = field(default_factory=dict)

    def flags(self) -> list[str]:
        """Return the words for a compiler."""
        return [f"-DMS_DEFORM_ATTN_{name}={value}" for name, value in self.macros.items()]


VARIANTS = (
    Variant("as it is"),
    Variant("forward: 8 lanes", {"FORWARD_LANES": 8}),
    Variant("backward: 4 lanes", {"BACKWARD_LANES": 4}),
    Variant("1 head a block", {"HEADS": 1}),
    Variant("2 heads a block", {"HEADS": 2}),
    Variant("forward: 512 threads, 2 blocks", {"FORWARD_THREADS": 512, "FORWARD_BLOCKS": 2}),
    Variant("forward: 256 threads, 6 blocks", {"FORWARD_BLOCKS": 6}),
    Variant("backward: 128 threads, 6 blocks", {"BACKWARD_THREADS": 128, "BACKWARD_BLOCKS": 6}),
    Variant("backward: 256 threads, 3 blocks", {"BACKWARD_BLOCKS": 3}),
    Variant("places in double", {"DOUBLE_PLACES": 1}),
    Variant("places in two floats", {"DOUBLE_PLACES": 0}),
)
SMALL = VARIANTS[1:2]
_DTYPES = ("bfloat16", "float32")


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each variant, type and direction."""
    variants = SMALL if settings.small else VARIANTS
    folder = Path(tempfile.mkdtemp(prefix="sweep_"))
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(build, settings.device, folder, number, each) for number, each in enumerate(variants)]
        for number, (variant, future) in enumerate(zip(variants, futures, strict=True)):
            try:
                torch.ops.load_library(future.result())
                yield from of_variant(variant, number, settings)
            except (RuntimeError, OSError, AssertionError) as error:
                yield {"what": variant.name, "error": failure(error)}


def namespace_of(number: int) -> str:
    """Return where a variant's operators are in torch.ops."""
    return f"ms_deform_attn_variant_{number}"


def build(device: str, folder: Path, number: int, variant: Variant) -> Path:
    """Compile a variant and return its library.

    Raises:
        RuntimeError: When the compiler fails, in its words.
    """
    namespace = namespace_of(number)
    library = folder / f"{namespace}.so"
    if device == "cpu":
        return build_emulator(library, namespace, [*variant.flags(), "-O0"])
    command = nvcc_command(library, namespace, variant.flags(), torch.cuda.get_device_capability())
    made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if made.returncode:
        print(made.stdout, made.stderr)
        raise RuntimeError(f"nvcc failed: {made.stderr.strip()[-250:]}")
    return library


def nvcc_command(library: Path, namespace: str, macros: Sequence[str], capability: tuple[int, int]) -> list[str]:
    """Return how a library with the operators for GPUs alone is made."""
    sources, torch_folder = kernel_folder(), Path(torch.__file__).parent
    flags = ["-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden", f"-arch=sm_{capability[0]}{capability[1]}"]
    flags += ["-DCUDA_KERNEL", f"-DTORCH_EXTENSION_NAME={namespace}", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    places = [f"-I{sources / 'csrc'}", f"-I{torch_folder / 'include'}", f"-L{torch_folder / 'lib'}"]
    links = ["-shared", "-Xlinker", "--no-as-needed", "-ltorch_cpu", "-ltorch"]
    files = [str(sources / source) for source in _SOURCES]
    return [*_find_nvcc(), *flags, *macros, *places, *files, *links, "-o", str(library)]


def of_variant(variant: Variant, number: int, settings: Settings) -> Iterator[Row]:
    """Yield the times of one variant."""
    operators = getattr(torch.ops, namespace_of(number))
    size, repeats = ("tiny", 1) if settings.small else ("encoder", 15)
    for dtype in _DTYPES:
        arguments, gradient = make_case(size, "fused", getattr(torch, dtype), settings.device)
        calls = {
            "forward": lambda _, arguments=arguments: operators.ms_deform_attn_fused(*arguments),
            "backward": lambda _, arguments=arguments, gradient=gradient: operators.ms_deform_attn_fused_backward(
                gradient, *arguments
            ),
        }
        for direction, call in calls.items():
            ms = milliseconds(settings.device, call, repeats, 3 if repeats > 1 else 0, head_start=HEAD_START)
            yield {"what": f"{size} {dtype} {direction}", "who": variant.name, "ms": ms}
