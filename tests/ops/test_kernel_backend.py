# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from unisegment.ops import kernel_backend
from unisegment.ops.kernel_backend import Kernel, describe_backend, find_kernel, resolve_backend
from unisegment.ops.kernel_build import LIBRARY, NAMESPACE, KernelUnavailableError

SOME_KERNEL = Kernel(
    Path("k.so"), "from somewhere", ("default", "avx2"), SimpleNamespace(cpu_capability=lambda: "avx2")
)


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch):
    monkeypatch.setattr(kernel_backend, "_found", None)
    monkeypatch.delenv("UNISEGMENT_KERNELS", raising=False)
    kernel_backend._warn_once.cache_clear()


@pytest.mark.parametrize("wish", [{"argument": "torch"}, {"variable": "torch"}])
def test_torch_looks_for_no_kernel(monkeypatch, wish):
    monkeypatch.setattr(kernel_backend, "_load", None)
    monkeypatch.setenv("UNISEGMENT_KERNELS", wish.get("variable", "native"))
    assert resolve_backend(wish.get("argument", "auto")) == "torch"


@pytest.mark.parametrize(("argument", "variable"), [("auto", "auto"), ("auto", "native"), ("native", "torch")])
def test_native_where_there_is_a_kernel(monkeypatch, argument, variable):
    monkeypatch.setattr(kernel_backend, "_load", lambda folder: SOME_KERNEL)
    monkeypatch.setenv("UNISEGMENT_KERNELS", variable)
    assert resolve_backend(argument) == "native"


def test_without_a_kernel_auto_warns_once_and_native_raises(monkeypatch):
    calls = []

    def fail(folder):
        calls.append(folder)
        raise KernelUnavailableError("the compiler is on holiday. Wait.")

    monkeypatch.setattr(kernel_backend, "_load", fail)
    with pytest.warns(RuntimeWarning, match="plain PyTorch.*: the compiler is on holiday. Wait. .*=torch") as warned:
        assert resolve_backend() == "torch"
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_backend() == "torch"
    with pytest.raises(RuntimeError, match=r"is demanded .* cannot be had: the compiler is on holiday"):
        resolve_backend("native")
    monkeypatch.setenv("UNISEGMENT_KERNELS", "native")
    with pytest.raises(RuntimeError, match=r"is demanded .* cannot be had: the compiler is on holiday"):
        resolve_backend()
    # Nothing is tried twice.
    assert len(calls) == 1


def test_other_words_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="take auto, native or torch, got 'cuda'"):
        resolve_backend("cuda")
    monkeypatch.setenv("UNISEGMENT_KERNELS", "yes")
    with pytest.raises(ValueError, match="take auto, native or torch, got 'yes'"):
        resolve_backend()
    assert describe_backend() == [
        ("ms_deform_attn", "error: backend and UNISEGMENT_KERNELS take auto, native or torch, got 'yes'.")
    ]


def test_what_info_says(monkeypatch):
    monkeypatch.setattr(kernel_backend, "_load", lambda folder: SOME_KERNEL)
    assert describe_backend() == [
        ("ms_deform_attn", "native, the compiled kernel; UNISEGMENT_KERNELS=auto"),
        ("kernel", "avx2 (of default, avx2), from somewhere: k.so"),
    ]
    monkeypatch.setenv("UNISEGMENT_KERNELS", "torch")
    assert describe_backend() == [("ms_deform_attn", "torch, plain PyTorch: as asked for; UNISEGMENT_KERNELS=torch")]
    monkeypatch.setattr(kernel_backend, "_found", "g++ failed:\n  line 3\n  line 4")
    monkeypatch.setenv("UNISEGMENT_KERNELS", "auto")
    text = "torch, plain PyTorch: g++ failed: line 3 line 4; UNISEGMENT_KERNELS=auto"
    assert describe_backend() == [("ms_deform_attn", text)]
    monkeypatch.setenv("UNISEGMENT_KERNELS", "native")
    text = "error: native is demanded and cannot be had: g++ failed: line 3 line 4; UNISEGMENT_KERNELS=native"
    assert describe_backend() == [("ms_deform_attn", text)]


def test_a_library_that_cannot_be_loaded_and_missing_sources_are_reasons(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel_backend, "kernel_folder", lambda: tmp_path)
    (tmp_path / "torch-ext" / NAMESPACE).mkdir(parents=True)
    (tmp_path / "torch-ext" / NAMESPACE / "__init__.py").touch()
    (tmp_path / LIBRARY).write_bytes(b"not a library")
    assert f"{tmp_path / LIBRARY} cannot be loaded: " in find_kernel()
    monkeypatch.setattr(kernel_backend, "_found", None)
    monkeypatch.setattr(kernel_backend, "kernel_folder", lambda: tmp_path / "nothing")
    assert "lacks the kernel's sources" in find_kernel()


def test_sources_are_those_of_the_repository():
    assert kernel_backend.kernel_folder() == Path(__file__).resolve().parents[2] / "kernels" / "ms_deform_attn"


def run(code, tmp_path, **variables):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), **variables}
    code = f"import torch\nfrom unisegment.ops import kernel_backend\n{code}"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_from_nothing_to_a_loaded_kernel(tmp_path):
    if isinstance(find_kernel(), str):
        pytest.skip(find_kernel())
    code = f"""
kernel = kernel_backend.find_kernel()
kernel_backend._found = None
again = kernel_backend.find_kernel()
assert again.functions is kernel.functions, "loaded twice"
assert hasattr(torch.ops.{NAMESPACE}, "ms_deform_attn_fused")
print(kernel.library, kernel.origin, sep=", ")
"""
    built = run(code, tmp_path)
    assert built.stderr == ""
    assert built.stdout.startswith(str(tmp_path / "unisegment"))
    assert built.stdout.endswith(f"{LIBRARY}, built on this machine\n")
    # The next process needs no compiler any more.
    assert run(code, tmp_path, PATH="", CXX="").stdout == built.stdout


def test_without_a_compiler_all_works_and_it_is_said_once(tmp_path):
    code = """
from unisegment.layers.ms_deform_attn import MSDeformAttn
layer = MSDeformAttn(16, num_heads=2, num_levels=1, num_points=2)
layer(torch.rand(1, 3, 16), torch.rand(1, 3, 1, 2), torch.rand(1, 6, 16), [(2, 3)]).sum().backward()
MSDeformAttn(16, num_heads=2, num_levels=1, num_points=2)
print(kernel_backend.resolve_backend())
kernel_backend.resolve_backend("native")
"""
    result = run(code, tmp_path, PATH="", CXX="")
    assert result.stdout == "torch\n"
    warned, raised = result.stderr.split("Traceback")
    assert warned.count("RuntimeWarning: ms_deform_attn runs in plain PyTorch") == 1
    assert "RuntimeError: The compiled ms_deform_attn kernel is demanded" in raised
