# SPDX-License-Identifier: Apache-2.0
"""Stage: what machine this is, and whether the library can be imported on it at all."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from gpu_report.rows import Row, failure
from gpu_report.settings import Settings

_PACKAGES = ("torch", "transformers", "triton", "accelerate", "numpy", "scipy", "pycocotools", "beartype", "datasets")
_OF_THE_GPU = (
    *("name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.mem", "clocks.sm", "clocks.mem"),
    *("power.limit", "temperature.gpu", "compute_mode", "mig.mode.current"),
)


def rows(settings: Settings) -> Iterator[Row]:
    """Yield one row for each thing known of this machine."""
    yield {"what": "python", "value": f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"}
    if settings.device == "cuda":
        yield from of_the_gpu(_OF_THE_GPU)
    yield {"what": "programs", "value": ", ".join(_programs())}
    yield {"what": "packages", "value": ", ".join(_packages())}
    import torch

    yield {"what": "torch", "value": f"{torch.__version__}, CUDA {torch.version.cuda}"}
    if settings.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        capability = f"{properties.major}.{properties.minor}"
        text = f"capability {capability}, {properties.multi_processor_count} multiprocessors"
        yield {"what": "gpu, by torch", "value": f"{text}, {properties.L2_cache_size >> 20} MiB of L2"}
    yield _import_of("unisegment")


def of_the_gpu(questions: Sequence[str]) -> Iterator[Row]:
    """Yield what nvidia-smi answers; one by one, because it refuses all of a list for one that it does not know."""
    for what in questions:
        command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader", "--id=0"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            found = {"value": answer.stdout.strip()} if answer.returncode == 0 else {"error": answer.stdout.strip()}
        except (OSError, subprocess.TimeoutExpired) as error:
            found = {"error": failure(error)}
        yield {"what": what, **found}


def _programs() -> Iterator[str]:
    for name in ("nvcc", "g++", "ncu", "compute-sanitizer"):
        yield f"{name} {shutil.which(name) or 'absent'}"


def _packages() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} absent"


def _import_of(name: str) -> Row:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # whatever it is, later stages need not try
        return {"what": f"import {name}", "error": failure(error)}
    return {"what": f"import {name}", "value": str(module.__file__)}
