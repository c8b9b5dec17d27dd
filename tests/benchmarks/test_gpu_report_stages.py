# SPDX-License-Identifier: Apache-2.0
"""The stages of benchmarks/gpu_report on the CPU: what they measure, and what they read from a GPU's tools.

The tools are programs that print what compute-sanitizer and ncu do; as much of it as depends on no GPU is from them.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.warm_processes import run_warm
from unisegment.ops.kernel_build import KernelUnavailableError, _find_compiler
from unisegment.ops.ms_deform_attn import ms_deform_attn

ROOT = Path(__file__).resolve().parents[2]
PLACES = [ROOT / "benchmarks", ROOT / "benchmarks" / "kernels", ROOT / "tests" / "kernels"]

SANITIZER = r"""#!/bin/sh
# memcheck is clean, racecheck finds a hazard, synccheck crashes, initcheck finds something in a kernel of torch's.
echo "========= COMPUTE-SANITIZER"
case "$*" in
*"--planted out_of_bounds"*)
  echo "========= Invalid __global__ write of size 4 bytes"
  echo "=========     at ms_deform_attn_rates::planted_out_of_bounds(float *, int)+0x80"
  echo "========= ERROR SUMMARY: 32 errors"; exit 3;;
*"--planted race"*)
  echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"; exit 0;;
*"--tool memcheck"*"--kernel-name kns=ms_deform_attn"*)
  [ "$PYTORCH_NO_CUDA_MEMORY_CACHING" = 1 ] || exit 9
  echo "done: float32 fused"; echo "done: bfloat16 fused"
  echo "========= ERROR SUMMARY: 0 errors"; exit 0;;
*"--tool racecheck"*)
  echo "========= Error: Race reported between Write access at ms_deform_attn::cuda::forward_kernel(int)+0x190"
  echo "=========     and Read access at ms_deform_attn::cuda::forward_kernel(int)+0x210 [192 hazards]"
  echo "========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)"; exit 3;;
*"--tool synccheck"*)
  echo "RuntimeError: CUDA error: an illegal memory access was encountered"
  echo "========= Error: Target application returned an error"
  echo "========= ERROR SUMMARY: 0 errors"; exit 1;;
*"--tool initcheck"*)
  case "$*" in *kernel-name*) exit 9;; esac
  echo "========= Uninitialized __global__ memory read of size 4 bytes"
  echo "=========     at void at::native::vectorized_elementwise_kernel<int>(int)+0xd0"
  echo "done: float32 fused"
  echo "========= ERROR SUMMARY: 1 error"; exit 3;;
esac
"""

NCU_COLUMNS = [
    *("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size", "Grid Size"),
    *("Device", "CC", "Section Name", "Metric Name", "Metric Unit", "Metric Value"),
]
NCU = r"""#!/bin/sh
# Does not know of one metric.
echo "==PROF== Connected to process 4242 (/usr/bin/python3.12)"
case "$*" in *launch__registers_per_thread*)
  echo "==ERROR== Failed to find metric launch__registers_per_thread"; exit 1;;
esac
case "$*" in *"--kernel-name regex:ms_deform_attn"*"--dtypes bfloat16"*) ;; *) exit 1;; esac
[ "$LC_ALL" = C ] || exit 9
for kernel in forward backward; do
  echo "==PROF== Profiling \"${kernel}_kernel\" - 0: 0%....50%....100% - 2 passes"
done
echo "==PROF== Disconnected from process 4242"
echo '%(header)s'
row() {
  kernel="void ms_deform_attn::cuda::$2_kernel<__nv_bfloat16, int, (int)32>(const T1 *, T2)"
  launch='"1","7","(4, 64, 1)","(2688, 1, 1)","0","9.0","Command line profiler metrics"'
  echo "\"$1\",\"4242\",\"python3.12\",\"127.0.0.1\",\"$kernel\",$launch,\"$3\",\"$4\",\"$5\""
}
row 0 forward gpu__time_duration.sum nsecond 61248
row 0 forward smsp__issue_active.avg.pct_of_peak_sustained_active % 91.25
row 0 forward lts__t_sectors_op_red.sum sector 0
row 0 forward dram__bytes.sum Mbyte 23.5
row 1 backward gpu__time_duration.sum usecond 410.5
row 1 backward lts__t_sectors_op_red.sum sector 33,030,144
row 1 backward l1tex__t_sector_hit_rate.pct % n/a
"""

NO_PERMISSION = r"""#!/bin/sh
echo "==PROF== Connected to process 4242 (/usr/bin/python3.12)"
what="permission to access NVIDIA GPU Performance Counters on the target device 0."
echo "==ERROR== ERR_NVGPUCTRPERM - The user does not have $what"
echo "==PROF== Disconnected from process 4242"
echo "==WARNING== No kernels were profiled."
exit 1
"""


@pytest.fixture(autouse=True)
def _import_path(monkeypatch):
    for place in reversed(PLACES):
        monkeypatch.syspath_prepend(place)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    from gpu_report.settings import Settings

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Settings("cpu", True, "", str(tmp_path), time.monotonic() + 600)


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def by_what(rows):
    return {row["what"]: row for row in rows}


def test_what_compute_sanitizer_says(tmp_path, settings):
    from gpu_report.sanitizers import with_tools

    program = write_program(tmp_path / "compute-sanitizer", SANITIZER)
    rows = by_what(with_tools(program, "library.so", settings))
    assert rows["memcheck"] == {"what": "memcheck", "errors": 0, "in_kernels_of_others": 0, "cases": 2}
    assert rows["racecheck"]["error"].startswith("Error: Race reported between Write access")
    assert rows["synccheck"]["error"].startswith("status 1, RuntimeError: CUDA error: an illegal memory access")
    assert rows["initcheck"]["in_kernels_of_others"] == 1
    assert "error" not in rows["initcheck"]
    assert rows["memcheck of a planted fault"]["value"] == "found, 32 errors"
    assert "not found" in rows["racecheck of a planted fault"]["error"]


def test_a_tool_without_end_is_killed(tmp_path):
    from gpu_report.programs import run
    from gpu_report.sanitizers import verdict

    program = write_program(tmp_path / "hangs", "#!/bin/sh\necho begun\nexec sleep 60\n")
    said = run([program], os.environ, 0)
    assert said.status is None
    assert said.text in ("begun\n", "")  # the second where the machine is busy
    assert verdict(said) == {"error": "no end in its time"}
    assert run([str(tmp_path / "absent")], os.environ, 1).status == -1


def test_what_ncu_counts(tmp_path, settings):
    from gpu_report.counters import of_dtype

    header = ",".join(f'"{name}"' for name in NCU_COLUMNS)
    program = write_program(tmp_path / "ncu", NCU.replace("%(header)s", header))
    rows = by_what(of_dtype(program, "library.so", "bfloat16", settings, 30))
    forward, backward = rows["tiny bfloat16 forward"], rows["tiny bfloat16 backward"]
    assert forward["us"] == pytest.approx(61.248)
    assert forward["issue_slots_percent"] == 91.25
    assert forward["dram_bytes"] == pytest.approx(23.5e6)
    assert (backward["us"], backward["red_sectors"], backward["l1_hit_percent"]) == (410.5, 33030144, "n/a")


def test_why_ncu_counts_nothing(tmp_path, settings, monkeypatch):
    from gpu_report import counters

    program = write_program(tmp_path / "ncu", NO_PERMISSION)
    (row,) = counters.of_dtype(program, "library.so", "float32", settings, 30)
    assert row["error"].startswith("==ERROR== ERR_NVGPUCTRPERM")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    (row,) = counters.rows(settings)
    assert row == {"what": "ncu", "error": "there is no such program"}


@pytest.fixture
def rates(settings):
    try:
        _find_compiler()
    except KernelUnavailableError as error:
        pytest.skip(str(error))
    from gpu_report import rates

    rates.library.cache_clear()
    yield rates
    rates.library.cache_clear()


def test_rates_count_what_really_moves(rates):
    """In the emulator: every turn of every group reads its head's row, or adds to all numbers of one pixel's row."""
    turns, blocks, pixels = 8, 2, 64
    values = torch.zeros(pixels, rates.ROW_BYTES // 16, 4, dtype=torch.int32)
    values[:, :4, 0], values[:, 4:8, 0] = 1, 1 << 16
    threads = torch.arange(blocks * rates.THREADS) % rates.THREADS
    for rate in rates.GATHERS:
        sums = rates.gather(rate, "cpu", values, turns, blocks)
        second = threads % 8 >= 4 if rate.lanes == 8 else (threads // 4) % rate.option == 1
        assert torch.equal(sums, torch.where(second, turns << 16, turns).int())
    for rate in rates.REDUCTIONS:
        gradients = torch.zeros(pixels, rates.GRADIENT_BYTES // 4)
        rates.reduce(rate, "cpu", gradients, turns, blocks)
        assert gradients.sum() == blocks * rates.THREADS // rate.lanes * turns * 32
        assert (gradients == gradients[:, :1]).all()
        assert (gradients[:, 0] > 0).float().mean() > 0.9


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc was not found on PATH")
def test_rates_compile_for_a_gpu(tmp_path):
    source = ROOT / "benchmarks" / "gpu_report" / "rates.cu"
    command = ["nvcc", "-arch=sm_90", "-std=c++17", "-O3", "-Xptxas", "-v", "-Xcompiler", "-fPIC,-fvisibility=hidden"]
    done = subprocess.run(
        [*command, "-shared", str(source), "-o", str(tmp_path / "rates.so")], capture_output=True, text=True, check=True
    )
    assert "warning" not in done.stderr
    assert done.stderr.count("0 bytes spill stores") == 8


def test_sensetimes_kernel_comes_from_torch_ops(monkeypatch):
    from gpu_report.sensetime import sensetime_function

    library = torch.library.Library("deformable_detr_for_tests", "DEF")
    library.define("ms_deform_attn_forward(Tensor v, Tensor s, Tensor l, Tensor p, Tensor w, int step) -> Tensor")
    library.define(
        "ms_deform_attn_backward(Tensor v, Tensor s, Tensor l, Tensor p, Tensor w, Tensor g, int step) -> Tensor[]"
    )

    def forward(value, sizes, starts, points, weights, step):
        assert starts.tolist() == [0, 77]
        assert step == len(value)
        return ms_deform_attn(value, sizes.tolist(), points, weights, backend="torch")

    def backward(value, sizes, starts, points, weights, gradient, step):
        leaves = [tensor.detach().requires_grad_() for tensor in (value, points, weights)]
        with torch.enable_grad():
            output = ms_deform_attn(leaves[0], sizes.tolist(), *leaves[1:], backend="torch")
        return list(torch.autograd.grad(output, leaves, gradient))

    library.impl("ms_deform_attn_forward", forward, "CPU")
    library.impl("ms_deform_attn_backward", backward, "CPU")
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    function = sensetime_function("library.so")
    shapes = [(7, 11), (3, 5)]
    tensors = [torch.randn(2, 92, 3, 8), torch.rand(2, 13, 3, 2, 4, 2), torch.rand(2, 13, 3, 2, 4)]
    results = []

    def of_torch(shapes, value, *parameters):
        return ms_deform_attn(value, shapes, *parameters, backend="torch")

    for each in (function, of_torch):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        output = each(shapes, *leaves)
        output.square().sum().backward()
        results.append([output, *(leaf.grad for leaf in leaves)])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted)


def print_kernel_table(folder):
    sys.path[:0] = map(str, PLACES)
    from gpu_report import kernel_table
    from gpu_report.settings import Settings

    kernel_table.SMALL = kernel_table.SMALL[:2]
    kernel_table.rates.measured = lambda *_: dict.fromkeys(
        ["DRAM, copies", *(rate.what for rate in (*kernel_table.rates.GATHERS, *kernel_table.rates.REDUCTIONS))], 1e9
    )
    settings = Settings("cpu", True, "", folder, time.monotonic() + 600, sensetime="no_such_library.so")
    print(json.dumps(list(kernel_table.rows(settings))))


def test_everybody_computes_the_same_in_the_kernels_table(tmp_path):
    status, output, errors = run_warm(print_kernel_table, str(tmp_path))
    assert status == 0, errors
    rows = json.loads(output.splitlines()[-1])
    (missing,) = [row for row in rows if row["what"] == "SenseTime's library"]
    assert "no_such_library.so" in missing["error"]
    found = {(row["what"], row.get("who")): row for row in rows}
    for direction in ("forward", "backward"):
        ours = found["tiny bfloat16 b1 " + direction, "ours, fused"]
        theirs = found["tiny bfloat16 b1 " + direction, "transformers"]
        assert ours["relative_error"] < 0.01
        assert theirs["ratio"] == pytest.approx(theirs["ms"] / ours["ms"])
        # 336 queries, 8 heads, 12 samples, 4 corners, 32 channels of 2 bytes (of 4 in the gradient) at 1 GB/s.
        bytes_moved = 336 * 8 * 12 * 4 * 32 * (2 if direction == "forward" else 4)
        assert ours["floor_ms"] == pytest.approx(bytes_moved / 1e6)
        assert found[f"tiny float32 b1 {direction}, from points", "ours, of points"]["relative_error"] < 1e-5


def test_out_of_memory_is_a_row(settings):
    from gpu_report.kernel_table import SMALL, of_table

    def too_much(shapes, **inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nMore")

    (row,) = of_table(SMALL[0], {"transformers": too_much}, settings)
    assert row["error"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB."


def test_times_on_a_gpu_are_those_between_events(monkeypatch):
    """With stand-ins for torch.cuda, in the order in which a GPU would be asked."""
    from gpu_report.measure import milliseconds

    asked = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            asked.append("record")

        def synchronize(self):
            asked.append("wait")

        def elapsed_time(self, end):
            return float(len(asked))

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: asked.append("wait"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: asked.append(f"sleep {cycles}"))
    numbers = []
    took = milliseconds("cuda", numbers.append, 3, 2, lambda number: 10 * number, head_start=7)
    assert numbers == [0, 10, 20, 30, 40]
    each = ["wait", "sleep 7", "record", "record", "wait"]
    assert asked == 3 * each
    assert took == 2 * len(each)


def test_what_nvidia_smi_says(tmp_path, monkeypatch):
    from gpu_report.environment import of_the_gpu

    script = (
        '#!/bin/sh\ncase "$1" in *=name) echo "NVIDIA H100 80GB HBM3";; *) echo "Field is not valid."; exit 2;; esac\n'
    )
    write_program(tmp_path / "nvidia-smi", script)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    known, unknown = of_the_gpu(["name", "no.such.thing"])
    assert known == {"what": "name", "value": "NVIDIA H100 80GB HBM3"}
    assert unknown == {"what": "no.such.thing", "error": "Field is not valid."}


def test_what_tests_gpu_say(tmp_path, settings, monkeypatch):
    from gpu_report import gpu_tests

    (tmp_path / "tests" / "gpu").mkdir(parents=True)
    (tmp_path / "tests" / "gpu" / "test_it.py").write_text(
        "import pytest\n\n\n@pytest.mark.parametrize('what', ['one thing', 'another'])\ndef test_it(what):\n"
        "    import tests\n    assert what == 'another'\n\n\ndef test_sanitizer():\n    assert False\n\n\n"
        "@pytest.mark.skip(reason='no')\ndef test_skipped():\n    pass\n"
    )
    monkeypatch.setattr(gpu_tests, "ROOT", tmp_path)
    failed, counted, whole = gpu_tests.rows(settings)
    assert failed["what"] == "tests/gpu/test_it.py::test_it[one thing]"
    assert counted == {"what": "tests/gpu/test_it.py", "failed": 1, "passed": 1, "skipped": 1}
    assert whole["error"] == "status 1"
    assert "1 failed, 1 passed, 1 skipped, 1 deselected" in whole["value"]


def test_a_wrong_kernel_is_seen(settings, monkeypatch):
    from cases import TYPES
    from gpu_report import parity

    monkeypatch.setattr(parity, "TYPES", TYPES[:1])
    right, fused = parity.ms_deform_attn, parity.ms_deform_attn_fused
    monkeypatch.setattr(parity, "ms_deform_attn", lambda *args, backend: right(*args, backend="torch"))
    monkeypatch.setattr(parity, "ms_deform_attn_fused", lambda *args, backend: 1.0001 * fused(*args, backend="torch"))
    of_offsets, of_points = parity.rows(settings)
    assert 0 < of_points["share_of_allowed_error"] <= 1
    assert "error" not in of_points
    assert "error" in of_offsets
