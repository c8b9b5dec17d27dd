# SPDX-License-Identifier: Apache-2.0
"""The `unisegment` command: thin, every subcommand calls one function of the library."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated

import torch
import typer

from unisegment.data.categories import label_names
from unisegment.models.conversion import Format
from unisegment.models.conversion import convert as convert_checkpoint
from unisegment.models.unisegment.base_weights import ORIGINAL_ZOO
from unisegment.ops.kernel_backend import describe_backend

app = typer.Typer(no_args_is_help=True, add_completion=False)

_PACKAGES = ("unisegment", "torch", "transformers", "accelerate", "datasets", "pycocotools", "scipy", "einops", "numpy")


@app.callback()
def main() -> None:
    """Universal image segmentation: one checkpoint for semantic, instance and panoptic results."""


@app.command()
def info() -> None:
    """Print versions, devices and which code paths will run."""
    for name, value in environment():
        typer.echo(f"{name:<16} {value}")


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="Folder or Hub id; or a .pkl, .pth or .safetensors file of the original.")
    ],
    destination: Annotated[Path, typer.Argument(help="Folder; or, for the original, a file of these kinds.")],
    to: Annotated[Format, typer.Option(help="Whose checkpoint to write.")] = "unisegment",
    labels: Annotated[str | None, typer.Option(help="Class names: coco_panoptic, ade20k, …, or a .json file.")] = None,
    license: Annotated[str, typer.Option(help="Licence of the weights in a file of the original.")] = ORIGINAL_ZOO,
) -> None:
    """Rewrite a checkpoint of unisegment, transformers or the original Mask2Former for another of these."""
    try:
        id2label = None if labels is None else label_names(labels)
        model = convert_checkpoint(source, destination, to, id2label, license=license)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    sizes = f"{model.config.num_labels} classes, {model.config.num_queries} queries"
    typer.echo(f"{destination}: a checkpoint of {to}, {sizes}")


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
    return lines + describe_backend()
