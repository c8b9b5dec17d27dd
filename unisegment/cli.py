# SPDX-License-Identifier: Apache-2.0
"""The `unisegment` command: thin, every subcommand calls one function of the library."""

import os
import platform
from importlib import metadata

import torch
import typer

from unisegment.ops.ms_deform_attn import ENVIRONMENT_VARIABLE, resolve_backend

app = typer.Typer(no_args_is_help=True, add_completion=False)

_PACKAGES = ("unisegment", "torch", "transformers", "accelerate", "datasets", "pycocotools", "scipy", "einops", "numpy")
_PATHS = {"torch": "pure PyTorch (this version has no compiled kernel)"}


@app.callback()
def main() -> None:
    """Universal image segmentation: one checkpoint for semantic, instance and panoptic results."""


@app.command()
def info() -> None:
    """Print versions, devices and which code paths will run."""
    for name, value in environment():
        typer.echo(f"{name:<16} {value}")


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
        lines.append((f"cuda:{index}", f"{properties.name}, {gibibytes:.0f} GiB, {architecture}"))
    if torch.backends.mps.is_available():
        lines.append(("mps", "available"))
    try:
        path = _PATHS[resolve_backend()]
    except (RuntimeError, ValueError) as error:
        path = f"error: {error}"
    wish = os.environ.get(ENVIRONMENT_VARIABLE, "auto")
    lines.append(("ms_deform_attn", f"{path}; {ENVIRONMENT_VARIABLE}={wish}"))
    return lines
