# SPDX-License-Identifier: Apache-2.0
"""The subcommand `unisegment convert-data`: the words of a line in, a data set in another format out."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unisegment import command_options as options
from unisegment.command_errors import one_line
from unisegment.command_imports import importing
from unisegment.data.writing import ImageMode, WriterName
from unisegment.files import is_within


def convert_data(
    source: Annotated[str, typer.Argument(metavar="DATA|RECIPE", help="Folder or address of a data set, or a recipe.")],
    destination: Annotated[Path, typer.Argument(metavar="FOLDER", help="For the new data set: a new or empty folder.")],
    to: Annotated[WriterName, typer.Option(help="Format of the new data set.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="data.key=value, such as data.val_share=0.1 or data.void_ids=[0].")
    ] = None,
    format: options.FormatOption = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Which part; may be repeated. Else train, val and test, if there."),
    ] = None,
    images: Annotated[
        ImageMode, typer.Option(help="Image files: copy, link, or none, which leaves them (coco_* names them).")
    ] = "copy",
    components: Annotated[
        Literal["4", "8"] | None,
        typer.Option(
            help="Make each connected region an object: pixels that touch along edges (4), or at corners, too (8)."
        ),
    ] = None,
    stuff: Annotated[
        str | None, typer.Option(metavar="DATA", help="A data set of the same images, whose stuff fills what is free.")
    ] = None,
    workers: options.Workers = 0,
    on_error: options.OnErrorOption = None,
) -> None:
    """Write a data set in another format, and read it back to check it. Stopped, the same command goes on.

    Example: unisegment convert-data data/coco data/yolo --to yolo_segmentation
    """
    with importing():
        from unisegment.checking.sources import find_parts
        from unisegment.data.writing.components import Components
        from unisegment.data.writing.with_stuff import WithStuff
        from unisegment.runs.data_conversion import convert_data
        from unisegment.runs.data_opening import data_named, open_split
        from unisegment.runs.data_splits import SPLITS, splits_of
        from unisegment.runs.settings import parse_overrides
    settings = parse_overrides(overrides or ())
    if on_error is not None:
        settings["data.on_error"] = on_error
    parts = find_parts([source], format, split or SPLITS, settings)
    data = parts[0].data
    _require_outside(destination, data.root)
    names = split or splits_of(data)
    typer.echo(f"Reading {', '.join(names)} as {data.format}.")
    opened: dict[str, Any] = {}
    with data_named(data):
        for name in names:
            opened[name] = open_split(data, name)
            if components is not None:
                opened[name] = Components(opened[name], 4 if components == "4" else 8)
    if stuff is not None:
        of_stuff = find_parts([stuff], None, names)[0].data
        _require_outside(destination, of_stuff.root)
        with data_named(of_stuff):
            opened = {name: WithStuff(samples, open_split(of_stuff, name)) for name, samples in opened.items()}
    summary = convert_data(
        opened,
        destination,
        to,
        source=" ".join(map(str, (_place(source), *(overrides or ()), data.format, components, _place(stuff or "")))),
        images=images,
        workers=workers,
        skip_unreadable=data.on_error == "skip",
    )
    _report(destination, summary, [problem for samples in opened.values() for problem in samples.left_out])


def _require_outside(destination: Path, root: str) -> None:
    if is_within(destination, Path(root)):
        raise typer.BadParameter(f"{destination} is in {root}, of which it would become a part: choose another.")


def _place(name: str) -> str:
    """Return where a data set is, wherever the command is given."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def _report(destination: Path, summary: dict[str, Any], left_out: list[str]) -> None:
    from unisegment.data.writing.data_set_writer import LOST

    counts = ", ".join(f"{number} of {name}" for name, number in summary["images"].items())
    done = f"{summary['new']} of them new, all read back" if summary["new"] else "finished before, nothing to do"
    typer.echo(f"{destination}: images: {counts}; {done}")
    for name, number in summary["lost"].items():
        typer.echo(f"not written: {number} {LOST[name]}", err=True)
    for problem in [*left_out, *summary["left_out"]]:
        typer.echo(one_line(f"left out: {problem}"), err=True)
