# SPDX-License-Identifier: Apache-2.0
"""What several commands take: their options, named and explained once. Nothing here needs torch."""

from typing import Annotated, Literal

import typer

from unisegment.data.choices import Matching, OnError, check_run_name
from unisegment.data.formats import FormatName
from unisegment.models.choices import Dtype

Task = Literal["panoptic", "instance", "semantic"]


def share(value: float | None) -> float | None:
    """Return a value of an option that is from 0 to 1, or None; refuse any other one."""
    if value is not None and not 0 <= value <= 1:
        raise typer.BadParameter(f"{value} is not from 0 to 1.")
    return value


def run_name(value: str) -> str:
    """Return a value of an option that can be part of a file's name; refuse any other one."""
    try:
        check_run_name(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return value


MOST = 2**31 - 1

# What several commands take.
Checkpoint = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="Folder of a checkpoint or run, Hub id, or model_final.pkl.")
]
FormatOption = Annotated[
    FormatName | None, typer.Option(help="What the data set is; else the recipe's, or seen by what is in it.")
]
Split = Annotated[str, typer.Option(help="Which part of the data set.")]
MatchLabels = Annotated[Matching, typer.Option(help="How labels of checkpoint and data set are matched.")]
Tta = Annotated[bool, typer.Option("--tta", help="Semantic results from six sizes, mirrored and not.")]
Limit = Annotated[int | None, typer.Option(min=1, max=MOST, help="The first images only.")]
TopK = Annotated[int | None, typer.Option(min=1, max=MOST, help="Most objects of an image; else 100.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, max=65_536, help="Images of equal size that go through together; else 1.")
]
Workers = Annotated[int, typer.Option(min=0, max=256, help="Processes that load images.")]
OnErrorOption = Annotated[
    OnError | None, typer.Option(help="For images that cannot be read; else the recipe's, or raise.")
]
Device = Annotated[str | None, typer.Option(help="cuda, cuda:1, mps, cpu; else a GPU where there is one.")]
DtypeOption = Annotated[Dtype, typer.Option(help="What the network computes in; auto is as it was saved.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="torch.compile: minutes for the first image, and says what later ones gain.")
]
DecoderLayers = Annotated[
    int | None,
    typer.Option(min=1, max=MOST, help="Leave out last layers of the decoder: faster. Counts as the config does."),
]
Tf32 = Annotated[
    bool | None,
    typer.Option("--tf32/--no-tf32", help="Let GPUs that have TF32 round float32 to it; else the recipe's, or on."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what the run would do and need, and write nothing.")]
Memory = Annotated[
    bool, typer.Option("--memory", help="With --dry-run: also list the memory of each part of the model.")
]
