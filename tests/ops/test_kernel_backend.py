# SPDX-License-Identifier: Apache-2.0
import os
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.quick_compiler import write_quick_compiler
from tests.warm_processes import run_code, run_warm
from unisegment.ops import kernel_backend
from unisegment.ops.kernel_backend import BackendError, Kernel, describe_backend, find_kernel, resolve_backend
from unisegment.ops.kernel_build import LIBRARY, NAMESPACE, KernelUnavailableError, library_name

SOME_KERNEL = Kernel(
    library=Path("k.so"),
    origin="from somewhere",
    instruction_sets=("default", "avx2"),
    architectures=(),
    gpus=(),
    gpu_gap="torch finds no NVIDIA GPU.",
    functions=SimpleNamespace(cpu_capability=lambda: "avx2"),
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
    with pytest.raises(BackendError, match=r"is demanded .* cannot be had: the compiler is on holiday"):
        resolve_backend("native")
    monkeypatch.setenv("UNISEGMENT_KERNELS", "native")
    with pytest.raises(BackendError, match=r"is demanded .* cannot be had: the compiler is on holiday"):
        resolve_backend()
    # Nothing is tried twice.
    assert len(calls) == 1


def test_other_words_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="backend takes auto, native or torch, got 'cuda'"):
        resolve_backend("cuda")
    monkeypatch.setenv("UNISEGMENT_KERNELS", "yes")
    with pytest.raises(BackendError, match="variable UNISEGMENT_KERNELS takes auto, native or torch, got 'yes'"):
        resolve_backend()
    assert describe_backend() == [
        ("ms_deform_attn", "error: The environment variable UNISEGMENT_KERNELS takes auto, native or torch, got 'yes'.")
    ]


def test_what_info_says(monkeypatch):
    monkeypatch.setattr(kernel_backend, "_load", lambda folder: SOME_KERNEL)
    assert describe_backend() == [
        ("ms_deform_attn", "native, the compiled kernel; UNISEGMENT_KERNELS=auto"),
        ("kernel", "avx2 (of default, avx2), from somewhere: k.so"),
        ("kernel_on_gpus", "built for none; torch finds no NVIDIA GPU"),
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


@pytest.mark.parametrize(
    ("fields", "variable", "text"),
    [
        (
            {"architectures": ("sm_90", "compute_90"), "gpus": (True, True), "gpu_gap": ""},
            "auto",
            "built for sm_90, compute_90; cuda:0 native; cuda:1 native",
        ),
        (
            {"architectures": ("sm_90",), "gpus": (False, True), "gpu_gap": "nvcc failed:\nline 2."},
            "auto",
            "built for sm_90; cuda:0 torch, plain PyTorch; cuda:1 native; nvcc failed: line 2",
        ),
        (
            {"gpus": (False,), "gpu_gap": "no nvcc."},
            "native",
            "built for none; cuda:0 error: native is demanded and cannot be had; no nvcc",
        ),
    ],
)
def test_what_info_says_of_gpus(monkeypatch, fields, variable, text):
    monkeypatch.setattr(kernel_backend, "_load", lambda folder: replace(SOME_KERNEL, **fields))
    monkeypatch.setenv("UNISEGMENT_KERNELS", variable)
    assert dict(describe_backend())["kernel_on_gpus"] == text


def test_a_gpu_without_code_is_told_once_and_native_raises(monkeypatch):
    kernel = replace(SOME_KERNEL, architectures=("sm_90",), gpus=(True, False), gpu_gap="no nvcc was found. Install.")
    monkeypatch.setattr(kernel_backend, "_load", lambda folder: kernel)
    covered, bare = torch.device("cuda:0"), torch.device("cuda:1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_backend() == resolve_backend("auto", torch.device("cpu")) == "native"
        assert resolve_backend("native", covered) == resolve_backend("auto", torch.device("meta")) == "native"
        assert resolve_backend("torch", bare) == "torch"
    with pytest.warns(RuntimeWarning, match="plain PyTorch.*no code for cuda:1: no nvcc was found. Install.") as warned:
        assert resolve_backend("auto", bare) == "torch"
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_backend("auto", bare) == "torch"
    with pytest.raises(BackendError, match=r"is demanded .* cannot be had: it has no code for cuda:1: no nvcc"):
        resolve_backend("native", bare)


def test_which_gpus_torch_can_use(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda index: (8 + index, 0))
    monkeypatch.setattr("torch.version.cuda", "13.0")
    assert kernel_backend._gpus() == [(8, 0), (9, 0)]

    def forked(index):
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")

    monkeypatch.setattr("torch.cuda.get_device_capability", forked)
    assert kernel_backend._gpus() == []
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert kernel_backend._gpus() == []
    # ROCm
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.version.cuda", None)
    assert kernel_backend._gpus() == []


# A torch for CUDA on a machine with a GPU, as far as anybody asks.
WATCHED = """
asked = []
torch.version.cuda = "13.0"
for name in ("is_available", "device_count", "get_device_capability", "_lazy_init"):
    setattr(torch.cuda, name, lambda *_, name=name: asked.append(name) or 1)
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
small = dict(feature_size=32, mask_feature_size=16, hidden_dim=32, encoder_layers=1, decoder_layers=2, num_queries=3)
UniSegmentForUniversalSegmentation(UniSegmentConfig(**small, num_labels=2))
assert not asked, asked
torch.cuda.is_initialized = lambda: True
try:
    UniSegmentForUniversalSegmentation(UniSegmentConfig(**small, num_labels=2))
except TypeError:  # 1 is no capability
    pass
assert "get_device_capability" in asked
"""


def test_a_model_is_built_without_a_look_at_gpus_unless_cuda_runs():
    """Or else no process that uses CUDA could be forked from this one."""
    status, _, errors = run_warm(run_code, f"import torch\n{WATCHED}")
    assert status == 0, errors


NONE_FOUND = "torch finds no NVIDIA GPU that it can use."


@pytest.mark.parametrize(
    ("delivered", "gpus", "nvcc", "name", "origin", "gap"),
    [
        (None, [], True, LIBRARY, "built on this machine", NONE_FOUND),
        (None, [(9, 0)], True, "ms_deform_attn-sm_90-compute_90.so", "built on this machine", ""),
        (None, [(9, 0)], False, LIBRARY, "built on this machine", "nvcc is on holiday."),
        (LIBRARY, [], True, LIBRARY, "from the wheel", NONE_FOUND),
        (LIBRARY, [(9, 0)], True, "ms_deform_attn-sm_90-compute_90.so", "built on this machine", ""),
        (LIBRARY, [(9, 0)], False, LIBRARY, "from the wheel", "nvcc is on holiday."),
        ("ms_deform_attn-sm_80-compute_80.so", [(8, 6), (9, 0)], False, None, "from the wheel", ""),
        ("ms_deform_attn-sm_80.so", [(8, 6), (9, 0)], False, None, "from the wheel", "nvcc is on holiday."),
    ],
)
def test_which_library_is_taken(monkeypatch, tmp_path, delivered, gpus, nvcc, name, origin, gap):
    def cached(folder, architectures=()):
        if architectures and not nvcc:
            raise KernelUnavailableError("nvcc is on holiday.")
        return Path("cache") / library_name(architectures)

    monkeypatch.setattr(kernel_backend, "cached_library", cached)
    if delivered:
        (tmp_path / delivered).touch()
    expected = tmp_path / (name or delivered) if origin == "from the wheel" else Path("cache") / name
    assert kernel_backend._choose_library(tmp_path, gpus) == (expected, origin, gap)


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
    return run_warm(run_code, code, environment=environment)


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
    _, built, errors = run(code, tmp_path, CXX=write_quick_compiler(tmp_path))
    assert errors == ""
    assert built.startswith(str(tmp_path / "unisegment"))
    assert built.endswith(f"{LIBRARY}, built on this machine\n")
    # The next process needs no compiler any more.
    assert run(code, tmp_path, PATH="", CXX="")[1] == built


def test_threads_that_begin_at_once_load_one_library(monkeypatch):
    loaded = []

    def load(folder):
        loaded.append(folder)
        time.sleep(0.1)
        return SOME_KERNEL

    monkeypatch.setattr(kernel_backend, "_load", load)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: find_kernel(), range(4)))
    assert found == [SOME_KERNEL] * 4
    assert len(loaded) == 1


# Large enough for two threads, in the kernel and in torch itself.
FORK = """
import os, signal
from unisegment.ops.ms_deform_attn import ms_deform_attn

torch.set_num_threads(2)


def use():
    value = torch.rand(1, 6, 2, 8, requires_grad=True)
    output = ms_deform_attn(value, [(2, 3)], torch.rand(1, 999, 2, 1, 1, 2), torch.rand(1, 999, 2, 1, 1), "native")
    (output.sum() + torch.rand(1 << 20).exp().sum()).backward()


use()
process = os.fork()
if process == 0:
    signal.alarm(600)
    use()
    os._exit(0)
assert os.waitpid(process, 0)[1] == 0, "the forked process hangs"
assert torch.get_num_threads() == 2
"""


def test_a_process_forked_after_the_kernel_was_used_can_use_it():
    if isinstance(find_kernel(), str):
        pytest.skip(find_kernel())
    status, _, errors = run_warm(run_code, f"import torch\n{FORK}")
    assert status == 0, errors


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_waits_until_a_library_is_loaded(monkeypatch):
    """Its process would find the lock taken, by a thread that it does not have."""
    begun = threading.Event()

    def load(folder):
        begun.set()
        time.sleep(0.2)
        return SOME_KERNEL

    monkeypatch.setattr(kernel_backend, "_load", load)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(find_kernel)
        begun.wait()
        process = os.fork()
        if process == 0:
            signal.alarm(600)
            os._exit(0 if kernel_backend._found is find_kernel() else 1)
        assert os.waitpid(process, 0)[1] == 0
        assert loading.result() is SOME_KERNEL


def test_without_a_compiler_all_works_and_it_is_said_once(tmp_path):
    code = """
from unisegment.layers.ms_deform_attn import MSDeformAttn
layer = MSDeformAttn(16, num_heads=2, num_levels=1, num_points=2)
layer(torch.rand(1, 3, 16), torch.rand(1, 3, 1, 2), torch.rand(1, 6, 16), [(2, 3)]).sum().backward()
MSDeformAttn(16, num_heads=2, num_levels=1, num_points=2)
print(kernel_backend.resolve_backend())
kernel_backend.resolve_backend("native")
"""
    _, output, errors = run(code, tmp_path, PATH="", CXX="")
    assert output == "torch\n"
    warned, raised = errors.split("Traceback")
    assert warned.count("RuntimeWarning: ms_deform_attn runs in plain PyTorch") == 1
    assert "BackendError: The compiled ms_deform_attn kernel is demanded" in raised
