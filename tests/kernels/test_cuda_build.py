# SPDX-License-Identifier: Apache-2.0
"""What nvcc makes of the CUDA kernels of ms_deform_attn: no GPU needed."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "kernels" / "ms_deform_attn" / "csrc"
TARGETS = ["arch=compute_80,code=sm_80", "arch=compute_90,code=[sm_90,compute_90]", "arch=compute_100,code=sm_100"]
FAST = "Li32E"  # the fast head width in a kernel's mangled name
# Instructions of the loop over samples, for one sample and warp, on sm_90: what nvcc 13.0 makes, and a few per cent.
MOST_INSTRUCTIONS = {
    "forward bfloat16": 85,
    "forward float32": 35,
    "backward bfloat16": 177,
    "backward float32": 103,
}
NUM_FAST = 20  # float, two parameter types for each of two 16-bit types; fused or not; forward and backward


def load_sass_counts():
    spec = importlib.util.spec_from_file_location("sass_counts", ROOT / "benchmarks" / "kernels" / "sass_counts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sass_counts = load_sass_counts()
NVCC = sass_counts.find_tool("nvcc")
needs_disassembler = pytest.mark.skipif(
    None in (sass_counts.find_tool("cuobjdump"), sass_counts.find_tool("nvdisasm")),
    reason="cuobjdump and nvdisasm were found neither on PATH, in CUDA_HOME nor in nvidia's or triton's packages",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVCC is None, reason="nvcc was found neither on PATH nor in CUDA_HOME"),
]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Return the object file, what ptxas says of each kernel, and the PTX."""
    folder = tmp_path_factory.mktemp("cuda")
    target = folder / "launch.o"
    command = [NVCC, "-std=c++17", "-O3", "-Xptxas", "-v", "--threads", "2", "--keep", "--keep-dir", str(folder)]
    command += [word for target in TARGETS for word in ("-gencode", target)]
    command += ["-c", str(CSRC / "cuda" / "launch.cu"), "-o", str(target)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr
    entries = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads",
        result.stderr,
        flags=re.DOTALL,
    )
    spills = {(architecture, name): int(stores) + int(loads) for name, architecture, stores, loads in entries}
    return target, spills, (folder / "launch.compute_90.ptx").read_text()


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_fast_kernels_spill_no_registers(build, architecture):
    _, spills, _ = build
    fast = {name: size for (where, name), size in spills.items() if where == architecture and FAST in name}
    assert len(fast) == NUM_FAST
    assert not any(fast.values()), fast


def functions_of(text, start, kernel):
    """Return the text of every fast kernel whose name holds a word."""
    parts = re.split(start, text)[1:]
    return [part for part in parts if kernel in part.split("\n")[0] and FAST in part.split("\n")[0]]


def test_ptx_reads_16_bytes_and_adds_four_floats_at_once(build):
    *_, ptx = build
    for function in functions_of(ptx, r"\.entry ", "forward_kernel"):
        assert re.search(r"ld\.global\.nc\.v4", function)
    for function in functions_of(ptx, r"\.entry ", "backward_kernel"):
        assert "red.global.add.v4.f32" in function
        assert not re.search(r"(red|atom)\.global\.add\.f(16|32)", function)


@needs_disassembler
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_machine_code_reads_16_bytes_and_adds_four_floats_at_once(build, architecture):
    target, *_ = build
    sass = sass_counts.disassemble(target, architecture)
    forward = functions_of(sass, "Function : ", "forward_kernel")
    backward = functions_of(sass, "Function : ", "backward_kernel")
    assert len(forward) == len(backward) == NUM_FAST // 2
    for function in (*forward, *backward):
        # The backward reads what four floats of gradient belong to, which is 8 bytes in 16 bits.
        assert (
            len(
                re.findall(r"LDG\.E\.128\.CONSTANT" if function in forward else r"LDG\.E\.(64|128)\.CONSTANT", function)
            )
            >= 4
        )
        assert not re.search(r"\b(LDL|STL)\b", function)
    vector = r"REDG?\.E\.ADD\.F32x4"
    for function in backward:
        # Two additions of four for each corner's eight 16-bit channels, one for four floats.
        count = len(re.findall(vector, function))
        assert count >= 4 if architecture == "sm_90" else count == 0


@needs_disassembler
def test_loops_over_samples_have_few_instructions():
    rows = sass_counts.count_all(ROOT, "sm_90")
    counts = {name: row["loop"] / row["samples"] for name, row in rows.items()}
    assert all(counts[name] <= most for name, most in MOST_INSTRUCTIONS.items()), counts
    # One corner's loads and additions, and nothing for addresses but one multiplication each.
    for name, row in rows.items():
        accesses = row["samples"] * 4 * (2 if name == "backward bfloat16" else 1)
        assert row["classes"]["gather"] == accesses
        assert row["classes"].get("reduction", 0) == (accesses if "backward" in name else 0)


@pytest.mark.parametrize("source", ["csrc/cuda/ms_deform_attn_cuda.cpp", "torch-ext/torch_binding.cpp"])
def test_host_code_builds_against_any_torch(tmp_path, source):
    """And needs no symbol that a torch for CPUs lacks: one library serves torch with and without CUDA."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ was not found")
    torch_folder = Path(torch.__file__).parent
    target = tmp_path / "host.o"
    # Without CPU_KERNEL, as kernel-builder compiles for CUDA.
    flags = ["-std=c++17", "-O1", "-fPIC", "-Wall", "-DTORCH_TARGET_VERSION=0x020a000000000000", "-DCUDA_KERNEL"]
    flags += ["-DTORCH_EXTENSION_NAME=any_name"]
    includes = [f"-I{CSRC}", f"-I{torch_folder / 'include'}"]
    subprocess.run([compiler, *flags, *includes, "-c", str(CSRC.parent / source), "-o", str(target)], check=True)
    symbols = subprocess.run(["nm", "-C", str(target)], capture_output=True, text=True, check=True).stdout
    needed = [line.split(maxsplit=1)[1] for line in symbols.splitlines() if line.split()[0] == "U"]
    assert not [name for name in needed if name.startswith(("at::", "c10::", "cuda")) or "c10_cuda" in name]
    streams = re.findall(r"^\s+(\w) aoti_torch_get_current_cuda_stream$", symbols, flags=re.MULTILINE)
    assert streams == (["w"] if source.endswith("_cuda.cpp") else [])
