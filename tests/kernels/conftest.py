# SPDX-License-Identifier: Apache-2.0
"""The emulator of the CUDA kernels, built once for all tests of a process."""

import ctypes
import subprocess
from pathlib import Path

import pytest
import torch

from tests.kernels.emulation import Arguments
from unisegment.ops.kernel_build import KernelUnavailableError, _find_compiler

KERNEL = Path(__file__).parents[2] / "kernels" / "ms_deform_attn"
NAMESPACE = "ms_deform_attn_emulated"
SOURCES = ["emulator/emulator.cpp", "csrc/cuda/ms_deform_attn_cuda.cpp", "torch-ext/torch_binding.cpp"]


@pytest.fixture(scope="session")
def emulator_library(tmp_path_factory):
    """Return a library with the C function `emulate`; its operators are in torch.ops.ms_deform_attn_emulated."""
    try:
        compiler = _find_compiler()  # $CXX, too, which asks for an AddressSanitizer in `make test-asan`
    except KernelUnavailableError as error:
        pytest.skip(str(error))
    torch_folder = Path(torch.__file__).parent
    library = tmp_path_factory.mktemp("emulator") / "emulator.so"
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-Wall"]
    flags += [
        "-Wno-unknown-pragmas",
        f"-DTORCH_EXTENSION_NAME={NAMESPACE}",
        "-DTORCH_TARGET_VERSION=0x020a000000000000",
    ]
    includes = [f"-I{KERNEL / 'csrc'}", f"-I{torch_folder / 'include'}"]
    # Symbolic: the stand-ins for CUDA's streams and devices are for this library alone.
    links = [f"-L{torch_folder / 'lib'}", "-Wl,-Bsymbolic,--no-as-needed", "-ltorch_cpu", "-ltorch"]
    sources = [str(KERNEL / source) for source in SOURCES]
    command = [*compiler, *flags, *includes, *sources, *links, "-o", str(library)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    torch.ops.load_library(library)
    return library


@pytest.fixture(scope="session")
def emulate(emulator_library):
    """Return that function, see emulation.py."""
    function = ctypes.CDLL(str(emulator_library)).emulate
    function.argtypes, function.restype = [ctypes.POINTER(Arguments)], ctypes.c_char_p
    return function
