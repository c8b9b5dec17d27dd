# SPDX-License-Identifier: Apache-2.0
"""The whole library with CUDA code, as it is built for a wheel: made by nvcc, loaded by whatever torch is here."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.emulation import KERNEL
from tests.kernels.test_cuda_build import sass_counts
from tests.quick_compiler import write_quick_compiler
from tests.warm_processes import run_code, run_warm
from unisegment.ops import kernel_build
from unisegment.ops.kernel_build import NAMESPACE, KernelUnavailableError, build, library_name

ARCHITECTURES = ("sm_90", "compute_90")  # test_cuda_build.py compiles for more
OPERATOR_TESTS = Path(__file__).parents[1] / "ops" / "test_ms_deform_attn_native.py"

# In a process of its own: a library's operators can be registered only once.
USE = f"""
import sys
from pathlib import Path

import pytest
import torch


class Delivered:
    def pytest_sessionstart(self):
        from unisegment.ops import kernel_backend

        folder = Path(sys.argv[1])
        kernel_backend.kernel_folder = lambda: folder
        kernel = kernel_backend.find_kernel()
        assert kernel.origin == "from the wheel", kernel
        assert kernel.architectures == {ARCHITECTURES}, kernel
        for form in ("", "_fused"):
            for direction in ("", "_backward"):
                name = f"{NAMESPACE}::ms_deform_attn{{form}}{{direction}}"
                assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA"), name
        print(dict(kernel_backend.describe_backend())["kernel_on_gpus"])


# Without what pytest does to modules while they are imported: they are.
words = ["-q", "--assert=plain", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", *sys.argv[2:]]
sys.exit(pytest.main(words, plugins=[Delivered()]))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the kernel's folder as it is in a wheel, with such a library."""
    try:
        kernel_build._check_machine()
        kernel_build._find_compilers(ARCHITECTURES)
    except KernelUnavailableError as error:
        pytest.skip(str(error))
    copy = tmp_path_factory.mktemp("wheel") / "ms_deform_attn"
    for part in ("csrc", "torch-ext"):
        shutil.copytree(KERNEL / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", write_quick_compiler(copy))
        build(copy, copy / library_name(ARCHITECTURES), ARCHITECTURES)
    return copy


@pytest.fixture
def library(folder):
    return folder / library_name(ARCHITECTURES)


def test_operators_on_the_cpu_work_as_without(folder):
    words = [str(OPERATOR_TESTS), "-k", "equals_plain or bfloat16 or registered or gradcheck"]
    status, output, errors = run_warm(run_code, USE, folder, *words)
    assert status == 0, output + errors
    assert f"built for {', '.join(ARCHITECTURES)}; " in output
    assert re.search(r"\d+ passed", output)


def test_needs_no_torch_for_cuda_and_no_cuda_library(library):
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"\(NEEDED\).*\[(.+)\]", needed)
    assert {"libtorch.so", "libtorch_cpu.so"} <= set(libraries)
    assert not [name for name in libraries if "cuda" in name]
    symbols = subprocess.run(["nm", "-DC", library], capture_output=True, text=True, check=True).stdout
    kinds = re.findall(r"^[0-9a-f ]* (\w) (.+)$", symbols, flags=re.MULTILINE)
    wanted = [name for kind, name in kinds if kind == "U"]
    assert not [name for name in wanted if name.startswith(("at::", "c10::", "cu", "__cuda"))], wanted
    assert ("w", "aoti_torch_get_current_cuda_stream") in kinds
    # What torch brings of the same name must not be taken for the library's own.
    assert not [name for kind, name in kinds if kind in "TDB" and "cuda" in name.lower()]


def test_holds_code_for_every_architecture_of_its_name(library):
    tool = sass_counts.find_tool("cuobjdump")
    if tool is None:
        pytest.skip("cuobjdump was found neither on PATH, in CUDA_HOME nor in nvidia's or triton's packages")
    listed = subprocess.run([tool, "-lelf", "-lptx", library], capture_output=True, text=True, check=True).stdout
    assert sorted(set(re.findall(r"\.(sm_\d+)\.cubin", listed))) == ["sm_90"]
    assert sorted(set(re.findall(r"\.sm_(\d+)\.ptx", listed))) == ["90"]
