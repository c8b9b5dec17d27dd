# SPDX-License-Identifier: Apache-2.0
"""Stage: what the hardware counts while the kernels run at the size of an image, read by ncu."""

import csv
import os
import re
import shutil
from collections.abc import Iterator, Sequence

from gpu_report.programs import PYTHON, SMALL_CASE, Said, run
from gpu_report.rows import Row
from gpu_report.settings import Settings

# What a row calls it, and ncu. A hundred percent of issue slots is one instruction in every cycle of every scheduler.
METRICS = {
    "us": "gpu__time_duration.sum",
    "issue_slots_percent": "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "instructions": "smsp__inst_executed.sum",
    "bank_conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_gds_op_ld.sum",
    "wavefronts": "l1tex__data_pipe_lsu_wavefronts.sum",
    "red_sectors": "lts__t_sectors_op_red.sum",
    "l1_hit_percent": "l1tex__t_sector_hit_rate.pct",
    "l2_hit_percent": "lts__t_sector_hit_rate.pct",
    "dram_bytes": "dram__bytes.sum",
    "warps_percent": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "registers": "launch__registers_per_thread",
}
_TO_MICROSECONDS = {"nsecond": 1e-3, "ns": 1e-3, "usecond": 1, "us": 1, "msecond": 1e3, "ms": 1e3}
_TO_BYTES = {"Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}
DTYPES = ("bfloat16", "float32")
_NAMESPACE = "unisegment_ms_deform_attn"
_KERNELS = ("forward", "backward")


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each kernel, in each of two types."""
    program = shutil.which("ncu")
    if program is None:
        yield {"what": "ncu", "error": "there is no such program"}
        return
    # Imported by whom it is of use to: it takes seconds.
    from unisegment.ops.kernel_backend import Kernel, find_kernel

    kernel = find_kernel()
    if not isinstance(kernel, Kernel):
        yield {"what": "ncu", "error": f"there is no kernel: {kernel.splitlines()[0]}"}
    else:
        for number, dtype in enumerate(DTYPES):
            seconds = (settings.left() - 2) / (len(DTYPES) - number)
            yield from of_dtype(program, str(kernel.library), dtype, settings, seconds)


def of_dtype(program: str, kernel: str, dtype: str, settings: Settings, seconds: float) -> Iterator[Row]:
    """Yield the rows of one type."""
    size = "tiny" if settings.small else "encoder"
    case = [PYTHON, SMALL_CASE, kernel, _NAMESPACE, "--device", settings.device, "--size", size]
    case += ["--forms", "fused", "--dtypes", dtype]
    # In C, numbers have a point and nothing else in them.
    said = run([*command(program, list(METRICS.values())), *case], {**os.environ, "LC_ALL": "C"}, seconds)
    unknown = re.findall(r"ailed to find metric (?:regex:)?\^?([\w.]+)", said.text)
    if unknown:
        known = [metric for metric in METRICS.values() if metric not in unknown]
        said = run([*command(program, known), *case], {**os.environ, "LC_ALL": "C"}, seconds / 2)
    found = read(said.text)
    if not found:
        yield {"what": dtype, "error": why(said)}
    for name, measures in found.items():
        direction = next((word for word in _KERNELS if f"{word}_kernel" in name), name[:60])
        yield {"what": f"{size} {dtype} {direction}", **measures}


def command(program: str, metrics: Sequence[str]) -> list[str]:
    """Return the beginning of ncu's command line. Clocks stay as they are: the times are compared with others."""
    options = [
        "--csv",
        "--clock-control",
        "none",
        "--kernel-name-base",
        "demangled",
        "--kernel-name",
        "regex:ms_deform_attn",
    ]
    return [program, *options, "--metrics", ",".join(metrics)]


def read(text: str) -> dict[str, Row]:
    """Return the measures of each kernel, by its name, from what ncu prints with --csv."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    found: dict[str, Row] = {}
    names = {metric: name for name, metric in METRICS.items()}
    for line in csv.DictReader(lines):
        name = names.get(line.get("Metric Name") or "")
        if name is not None:
            value = number_of(name, line.get("Metric Value") or "", line.get("Metric Unit") or "")
            found.setdefault(line["Kernel Name"], {})[name] = value
    return found


def number_of(name: str, text: str, unit: str) -> float | str:
    """Return a value in our unit, or what stands in its place, such as n/a."""
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        return text
    return number * {"us": _TO_MICROSECONDS, "dram_bytes": _TO_BYTES}.get(name, {}).get(unit, 1)


def why(said: Said) -> str:
    """Return why there is nothing."""
    if said.status is None:
        return "no end in its time"
    lines = [line for line in said.text.splitlines() if line.startswith(("==ERROR==", "==WARNING=="))]
    return (lines or said.text.splitlines()[-1:] or ["it printed nothing"])[0][:200]
