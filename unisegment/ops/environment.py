# SPDX-License-Identifier: Apache-2.0
"""Versions, processors and the code paths that will run, for people who ask or report a fault."""

import os
import platform
from importlib import metadata

import torch

from unisegment.ops.kernel_backend import describe_backend
from unisegment.ops.tf32 import has_tf32

_PACKAGES = ("unisegment", "torch", "transformers", "accelerate", "datasets", "pycocotools", "scipy", "einops", "numpy")


def environment() -> list[tuple[str, str]]:
    """Return what `unisegment info` prints, as (name, value) lines."""
    lines = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    lines += [(package, metadata.version(package)) for package in _PACKAGES]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    lines.append(("cpu", f"{cores} cores, {torch.get_num_threads()} threads, {capability}"))
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        gibibytes = properties.total_memory / 2**30
        architecture = f"sm_{properties.major}{properties.minor}"
        tf32 = "TF32" if has_tf32(torch.device("cuda", index)) else "no TF32"
        lines.append((f"cuda:{index}", f"{properties.name}, {gibibytes:.0f} GiB, {architecture}, {tf32}"))
    if torch.backends.mps.is_available():
        lines.append(("mps", "available"))
    return lines + describe_backend()
