# SPDX-License-Identifier: Apache-2.0
"""The emulator of the CUDA kernels: how it is built, and how Python calls its C function on the memory of tensors."""

import ctypes
import subprocess
from pathlib import Path

import torch

from unisegment.ops.kernel_build import _find_compiler

KERNEL = Path(__file__).parents[2] / "kernels" / "ms_deform_attn"
NAMESPACE = "ms_deform_attn_emulated"
SOURCES = ["emulator/emulator.cpp", "csrc/cuda/ms_deform_attn_cuda.cpp", "torch-ext/torch_binding.cpp"]
NUMBERS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]  # in the order of `Number` in launch.cuh
GUARD = 64  # numbers before and after every tensor that is written to, which must stay as they are


class Arguments(ctypes.Structure):
    """`Arguments` of emulator.cpp."""

    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("batch_size", "num_queries")],
        *[(name, ctypes.c_int32) for name in ("num_levels", "num_points", "num_heads", "head_dim")],
        *[(name, ctypes.c_int32) for name in ("value_type", "parameter_type", "fused", "queries_are_pixels")],
        *[(name, ctypes.c_int32) for name in ("backward", "last_lane_first", "double_places")],
        ("spatial_shapes", ctypes.c_void_p),
        *[(name, ctypes.c_void_p) for name in ("value", "points", "weights", "reference_points")],
        *[(name, ctypes.c_void_p) for name in ("output", "grad_output", "grad_value", "grad_points", "grad_weights")],
    ]


def build_emulator(library, namespace=NAMESPACE, macros=()):
    """Compile the emulator, perhaps with macros as -DNAME=1, and return its library; its operators are in torch.ops.

    Raises:
        KernelUnavailableError: When there is no compiler.
    """
    compiler = _find_compiler()  # $CXX, too, which asks for an AddressSanitizer in `make test-asan`
    torch_folder = Path(torch.__file__).parent
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-Wall"]
    flags += [
        "-ffp-contract=off",  # places as sums of two floats are made of single roundings
        "-Wno-unknown-pragmas",
        f"-DTORCH_EXTENSION_NAME={namespace}",
        "-DTORCH_TARGET_VERSION=0x020a000000000000",
    ]
    includes = [f"-I{KERNEL / 'csrc'}", f"-I{torch_folder / 'include'}"]
    # Symbolic: the stand-ins for CUDA's streams and devices are for this library alone.
    links = [f"-L{torch_folder / 'lib'}", "-Wl,-Bsymbolic,--no-as-needed", "-ltorch_cpu", "-ltorch"]
    sources = [str(KERNEL / source) for source in SOURCES]
    command = [*compiler, *flags, *macros, *includes, *sources, *links, "-o", str(library)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return library


def guarded(shape, dtype, fill):
    """Return a tensor with guards around it, and a check that they are untouched."""
    size = torch.Size(shape).numel()
    memory = torch.full((size + 2 * GUARD,), 7, dtype=dtype)
    memory[GUARD : GUARD + size] = fill

    def check():
        assert (memory[:GUARD] == 7).all()
        assert (memory[GUARD + size :] == 7).all()

    return memory[GUARD : GUARD + size].view(shape), check


def run(
    emulate,
    arguments,
    grad_output=None,
    queries_are_pixels=False,
    last_lane_first=False,
    double_places=True,
    grad_value=None,
):
    """Return the output, or with grad_output the gradients of value, points and weights.

    The first of these is added to grad_value where that is given.
    """
    value, shapes, *reference, points, weights = arguments
    flat_shapes = torch.tensor(shapes, dtype=torch.int64)
    batch_size, num_queries, num_heads, num_levels, num_points = weights.shape
    head_dim = value.shape[3]
    backward = grad_output is not None
    if backward:
        results = {
            "grad_value": (grad_value, lambda: None)
            if grad_value is not None
            else guarded(value.shape, torch.promote_types(value.dtype, torch.float32), 0),
            "grad_points": guarded(points.shape, points.dtype, torch.nan),
            "grad_weights": guarded(weights.shape, weights.dtype, torch.nan),
        }
    else:
        results = {"output": guarded((batch_size, num_queries, num_heads * head_dim), value.dtype, torch.nan)}
    tensors = {"value": value, "points": points, "weights": weights, "grad_output": grad_output}
    tensors |= {"reference_points": reference[0] if reference else None, "spatial_shapes": flat_shapes}
    tensors |= {name: tensor for name, (tensor, _) in results.items()}
    failure = emulate(
        Arguments(
            batch_size=batch_size,
            num_queries=num_queries,
            num_levels=num_levels,
            num_points=num_points,
            num_heads=num_heads,
            head_dim=head_dim,
            value_type=NUMBERS.index(value.dtype),
            parameter_type=NUMBERS.index(points.dtype),
            fused=bool(reference),
            queries_are_pixels=queries_are_pixels,
            backward=backward,
            last_lane_first=last_lane_first,
            double_places=double_places,
            **{name: tensor.data_ptr() for name, tensor in tensors.items() if tensor is not None},
        )
    )
    assert failure is None, failure.decode()
    for _, check in results.values():
        check()
    return [tensor for tensor, _ in results.values()]
