# SPDX-License-Identifier: Apache-2.0
"""The emulator of the CUDA kernels, built once for all tests of a process."""

import ctypes

import pytest
import torch

from tests.kernels.emulation import Arguments, build_emulator
from unisegment.ops.kernel_build import KernelUnavailableError


@pytest.fixture(scope="session")
def emulator_library(tmp_path_factory):
    """Return a library with the C function `emulate`; its operators are in torch.ops.ms_deform_attn_emulated."""
    try:
        library = build_emulator(tmp_path_factory.mktemp("emulator") / "emulator.so")
    except KernelUnavailableError as error:
        pytest.skip(str(error))
    torch.ops.load_library(library)
    return library


@pytest.fixture(scope="session")
def emulate(emulator_library):
    """Return that function, see emulation.py."""
    function = ctypes.CDLL(str(emulator_library)).emulate
    function.argtypes, function.restype = [ctypes.POINTER(Arguments)], ctypes.c_char_p
    return function
