# SPDX-License-Identifier: Apache-2.0
"""Stage: compute-sanitizer finds no fault in the kernels on a tiny case, and does find two that are planted.

On the CPU the same case runs in the emulator of tests/kernels, which sees misaligned vectors and lanes that do not wait
for each other.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emulation import NAMESPACE as EMULATED
from emulation import build_emulator
from gpu_report.programs import PYTHON, SMALL_CASE, Said, run
from gpu_report.rates import library
from gpu_report.rows import Row, failure
from gpu_report.settings import Settings

from unisegment.ops.kernel_backend import Kernel, find_kernel
from unisegment.ops.kernel_build import NAMESPACE, KernelUnavailableError

# A part of the names of our kernels and of the planted faults, as they are written in C++ and as they are mangled.
_OURS = ("--kernel-name", "kns=ms_deform_attn")
_OPTIONS = {
    "memcheck": (*_OURS, "--padding", "64"),
    "racecheck": _OURS,
    "synccheck": _OURS,
    # Of all kernels: what torch fills would count as never written otherwise.
    "initcheck": (),
}
_PLANTED = {"memcheck": "out_of_bounds", "racecheck": "race"}
# Of the calls that torch makes to see what there is, some fail, and that is no fault.
_ALWAYS = ("--error-exitcode", "3", "--report-api-errors", "no", "--print-limit", "1000", "--launch-timeout", "0")
_TELLING = re.compile(r"(Invalid|Error|Warning|Uninit|Barrier|.*hazard|.*[a-z]Error:)")
_DONE = re.compile("^done: ", re.MULTILINE)
_SUMMARIES = (r"ERROR SUMMARY: (\d+) error", r"RACECHECK SUMMARY: (\d+) hazard")


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each tool, and for each planted fault."""
    if settings.device == "cpu":
        yield emulated(settings)
        return
    program = shutil.which("compute-sanitizer")
    if program is None:
        yield {"what": "compute-sanitizer", "error": "there is no such program"}
        return
    kernel = find_kernel()
    if not isinstance(kernel, Kernel):
        yield {"what": "compute-sanitizer", "error": f"there is no kernel: {kernel.splitlines()[0]}"}
        return
    library(settings.device)
    yield from with_tools(program, str(kernel.library), settings)


def with_tools(program: str, kernel: str, settings: Settings) -> Iterator[Row]:
    """Run all tools at once, each in a process of its own."""
    # torch's allocator hands out slices of larger blocks, beyond which nothing would be out of bounds.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    case = [PYTHON, SMALL_CASE, kernel, NAMESPACE, "--device", settings.device]
    rates = str(Path(tempfile.gettempdir()) / f"rates_{settings.device}.so")
    runs = {tool: [*options, *case] for tool, options in _OPTIONS.items()}
    planted = {tool: [*_OPTIONS[tool], *case, "--planted", fault, rates] for tool, fault in _PLANTED.items()}
    with ThreadPoolExecutor(len(runs) + len(planted)) as pool:

        def begin(tool: str, words: list[str]):
            command = [program, "--tool", tool, *_ALWAYS, *words]
            return pool.submit(run, command, environment, settings.left() - 3)

        found = [(tool, begin(tool, words)) for tool, words in runs.items()]
        of_planted = [(tool, begin(tool, words)) for tool, words in planted.items()]
        for tool, future in found:
            yield {"what": tool, **verdict(future.result())}
        for tool, future in of_planted:
            yield {"what": f"{tool} of a planted fault", **verdict_on_planted(future.result())}


def errors_of(said: Said) -> int | None:
    """Return how many errors a tool counted, or None where it does not say so."""
    counts = [re.findall(pattern, said.text) for pattern in _SUMMARIES]
    numbers = [int(number) for found in counts for number in found]
    return max(numbers) if numbers else None


def verdict(said: Said) -> Row:
    """Return what a tool found in our kernels."""
    errors = errors_of(said)
    if said.status is None:
        return {"error": first_trouble(said)}
    if errors is None or (said.status and not errors):
        return {"error": f"status {said.status}, {first_trouble(said)}"}
    # Of initcheck, which looks at all kernels: those of others are not what is asked for.
    elsewhere = len(re.findall(r"Uninitialized.*\n=+\s+at (?!.*ms_deform_attn)", said.text))
    row = {"errors": errors, "in_kernels_of_others": elsewhere, "cases": len(_DONE.findall(said.text))}
    return row | ({"error": first_trouble(said)} if errors > elsewhere else {})


def verdict_on_planted(said: Said) -> Row:
    """Return whether a tool found what was planted."""
    errors = errors_of(said)
    return {"value": f"found, {errors} errors"} if errors else {"error": f"not found: {first_trouble(said)}"}


def first_trouble(said: Said) -> str:
    """Return the line that says most about what went wrong."""
    if said.status is None:
        return "no end in its time"
    lines = [line.lstrip("= ").strip() for line in said.text.splitlines() if line.strip("= ")]
    telling = [
        line for line in lines if re.match(r"(Invalid|Error|Warning|Uninit|.*hazard|.*[a-z]Error:|Barrier)", line)
    ]
    return (telling or lines[-1:] or ["it printed nothing"])[0][:200]


def emulated(settings: Settings) -> Row:
    """Run the case in the emulator."""
    try:
        path = build_emulator(
            Path(tempfile.gettempdir()) / "emulator.so", macros=["-O0"]
        )  # is made quicker than it runs
    except (KernelUnavailableError, AssertionError) as error:
        return {"what": "emulator", "error": failure(error)}
    said = run([PYTHON, SMALL_CASE, str(path), EMULATED, "--device", "cpu"], os.environ, settings.left() - 3)
    return (
        {"what": "emulator", "value": "ran"} if said.status == 0 else {"what": "emulator", "error": first_trouble(said)}
    )
