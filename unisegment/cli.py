# SPDX-License-Identifier: Apache-2.0
"""The `unisegment` command: thin, every subcommand calls one function of the library.

A subcommand imports what it needs when it runs, so that help and misuse do not wait for torch and transformers.
Exit status: 0 done, 1 failed, 2 misused, 75 interrupted; see `unisegment.command_errors`.
"""

import os
from contextlib import nullcontext, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from unisegment import command_options as options
from unisegment.command_convert_data import convert_data
from unisegment.command_errors import Commands, one_line
from unisegment.command_imports import importing
from unisegment.data.choices import OnError, OutputName
from unisegment.errors import FAILED
from unisegment.models.choices import Format, Layout

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"unisegment {metadata.version('unisegment')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Segment images: one checkpoint gives semantic, instance and panoptic results.

    A first picture: unisegment predict facebook/mask2former-swin-tiny-coco-panoptic photo.jpg

    A training on a folder of yours: unisegment train data/mine
    """


@app.command()
def predict(
    checkpoint: options.Checkpoint,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Photos, folders, patterns, addresses, or - for paths on standard input; or one data set (--format), "
            "or recipe. The last of several names is the folder for the results; else it is predictions/.",
        ),
    ],
    to: Annotated[
        OutputName | None, typer.Option(help="What to write; else pictures, or coco_panoptic for a data set.")
    ] = None,
    task: Annotated[
        options.Task | None, typer.Option(help="What pictures show; else what the labels are made for.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            callback=options.share, help="Score that an object must exceed; else 0.5 in pictures, 0 in files."
        ),
    ] = None,
    panoptic_threshold: Annotated[
        float | None,
        typer.Option(callback=options.share, help="Smallest score of a panoptic segment; else the recipe's, or 0.8."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each image it segments.")] = False,
    size: Annotated[
        int | None, typer.Option(min=1, max=65_536, help="Pixels of the short side that images are resized to.")
    ] = None,
    format: options.FormatOption = None,
    split: options.Split = "val",
    images: Annotated[
        Path | None, typer.Option(help="JSON list of a folder's images, as COCO has it for tests.")
    ] = None,
    match_labels: options.MatchLabels = "name",
    tta: options.Tta = False,
    name: Annotated[
        str,
        typer.Option(callback=options.run_name, help="Name of the algorithm in names of files for evaluation servers."),
    ] = "unisegment",
    limit: options.Limit = None,
    top_k: options.TopK = None,
    batch_size: options.BatchSize = None,
    workers: options.Workers = 0,
    on_error: Annotated[
        OnError | None,
        typer.Option(help="Images that cannot be read: raise stops, skip leaves them out. Else: left out, status 1."),
    ] = None,
    device: options.Device = None,
    dtype: options.DtypeOption = "auto",
    compile: options.Compile = False,
    decoder_layers: options.DecoderLayers = None,
    tf32: options.Tf32 = None,
) -> None:
    """Segment images: draws what it sees, or writes result files. Stopped, the same command goes on where it was.

    unisegment predict CHECKPOINT INPUT... [OUT], for example unisegment predict runs/mine photo.jpg
    """
    from unisegment.command_predict import Inputs, print_image
    from unisegment.ops.weight_sources import find_checkpoint

    checkpoint = find_checkpoint(checkpoint)
    inputs = Inputs.of_words(names, is_data_set=format is not None)
    with importing():
        from unisegment.ops.tf32 import use_tf32
        from unisegment.runs.processes import start_processes
        from unisegment.segmenter import OtherRunError, Segmenter
    is_main_process = start_processes()
    source, settings = inputs.open(images, format, split, on_error)
    settings = settings.with_given(
        size=size, panoptic_threshold=panoptic_threshold, batch_size=batch_size, top_k=top_k, tf32=tf32
    )
    opening = settings.of_predictor | {"device": device, "dtype": dtype, "compile": compile, "augment": tta}
    segmenter = Segmenter.from_pretrained(checkpoint, decoder_layers=decoder_layers, **opening)
    for folder in inputs.outputs():
        with use_tf32(settings.tf32), nullcontext() if inputs.output else suppress(OtherRunError):
            summary = segmenter.predict(
                source,
                folder,
                to or ("coco_panoptic" if inputs.of_data_set else "pictures"),
                task=task,
                threshold=threshold,
                matching=match_labels,
                limit=limit,
                batch_size=settings.batch_size,
                workers=workers,
                on_error="skip" if settings.skip_unreadable else "raise",
                on_image=partial(print_image, as_json=as_json, as_table=inputs.is_one_image, threshold=threshold),
                source=f"{inputs.places} {images or ''} {format or ''} {split if inputs.of_data_set else ''}".strip(),
                run_name=name,
            )
            break
    if is_main_process:
        done = "1 image" if summary["images"] == 1 else f"{summary['images']} images"
        typer.echo(f"{folder}: {done}, {summary['new']} of them new", err=as_json)
        for problem in summary["unreadable_images"]:
            typer.echo(one_line(f"left out: {problem}"), err=True)
    if summary["unreadable_images"] and not inputs.of_data_set and on_error is None:
        raise typer.Exit(FAILED)


@app.command()
def train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATA|RECIPE",
            help="Folder or address of a data set, with the splits train and val; or a YAML file, or the name of a "
            "recipe that `unisegment recipes` lists.",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key.path=value, such as model.pretrained=user/coco schedule.epochs=50 optim.lr=5e-5."),
    ] = None,
    dry_run: options.DryRun = False,
    memory: options.Memory = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Try learning rates in 100 steps, suggest one, and write nothing.")
    ] = False,
) -> None:
    """Train a model on a data set, or as a recipe says. Stopped, it saves its state, and the same command goes on.

    Example: unisegment train data/mine model.pretrained=user/coco

    On several GPUs: accelerate launch "$(command -v unisegment)" train ...
    """
    from unisegment.runs.recipe_files import find_recipe
    from unisegment.runs.settings import parse_overrides

    if memory and not dry_run:
        raise typer.BadParameter("--memory lists what a step would need: give it with --dry-run.")
    settings = parse_overrides(overrides or ())
    is_data_set = os.path.isdir(source) or source.startswith("hf://")
    if not is_data_set:
        find_recipe(source)
    with importing():
        from unisegment.runs.data_opening import require_places
        from unisegment.runs.recipe import load_recipe
    if not is_data_set:  # what is wrong with it is said before everything else is imported
        require_places(load_recipe(source, settings))
    with importing():
        from accelerate import PartialState

        from unisegment import training
    if is_data_set:
        recipe = training.data_recipe(source, start=settings.pop("model.pretrained", None), **settings)
    else:
        recipe = load_recipe(source, settings)
    if find_lr:
        text = training.find_lr(recipe)  # starts the processes
        PartialState().print(text)
    elif dry_run:
        PartialState().print(training.dry_run(recipe, memory=memory))
    else:
        training.fit(recipe)


@app.command()
def evaluate(
    checkpoint: options.Checkpoint,
    data: Annotated[
        str | None, typer.Argument(help="Folder or address of a data set; else that of the recipe, or of the run.")
    ] = None,
    format: options.FormatOption = None,
    split: options.Split = "val",
    recipe: Annotated[
        str | None, typer.Option(help="Take data, sizes and thresholds from a recipe; else from that of the run.")
    ] = None,
    match_labels: options.MatchLabels = "name",
    tta: options.Tta = False,
    boundaries: Annotated[bool, typer.Option(help="Score boundaries, too.")] = True,
    output: Annotated[Path | None, typer.Option(help="Folder for metrics.json and the worst images.")] = None,
    worst: Annotated[int, typer.Option(min=0, max=options.MOST, help="How many of the worst images to draw.")] = 10,
    limit: options.Limit = None,
    top_k: options.TopK = None,
    batch_size: options.BatchSize = None,
    workers: options.Workers = 0,
    on_error: options.OnErrorOption = None,
    device: options.Device = None,
    dtype: options.DtypeOption = "auto",
    compile: options.Compile = False,
    decoder_layers: options.DecoderLayers = None,
    tf32: options.Tf32 = None,
) -> None:
    """Score a checkpoint on a data set: PQ, mask AP, mIoU and boundaries, of each class, at the images' own size.

    Example: unisegment evaluate runs/mine data/mine
    """
    from unisegment.ops.weight_sources import find_checkpoint
    from unisegment.runs.recipe_files import find_recipe
    from unisegment.runs.run_folder import recipe_of_run

    source = recipe if recipe is not None or data is not None else recipe_of_run(checkpoint)
    if source is None and data is None:
        raise typer.BadParameter("Say where the data are: evaluate CHECKPOINT DATA, or --recipe FILE.")
    checkpoint = find_checkpoint(checkpoint)
    if source is not None:
        find_recipe(source)
    with importing():
        from unisegment.inference.report import format_report
        from unisegment.ops.tf32 import use_tf32
        from unisegment.runs.data_opening import open_evaluation_data
        from unisegment.runs.processes import start_processes
        from unisegment.segmenter import Segmenter
    is_main_process = start_processes()
    samples, settings = open_evaluation_data(source, data, format, split, on_error)
    settings = settings.with_given(batch_size=batch_size, top_k=top_k, tf32=tf32)
    opening = settings.of_predictor | {"device": device, "dtype": dtype, "compile": compile, "augment": tta}
    segmenter = Segmenter.from_pretrained(checkpoint, decoder_layers=decoder_layers, **opening)
    with use_tf32(settings.tf32):
        report = segmenter.evaluate(
            samples,
            tasks=settings.tasks,
            matching=match_labels,
            limit=limit,
            boundaries=boundaries,
            output=output,
            worst=worst if output else 0,
            batch_size=settings.batch_size,
            workers=workers,
            on_error="skip" if settings.skip_unreadable else "raise",
        )
    if is_main_process:
        typer.echo(format_report(report))
        for problem in report["unreadable_images"]:
            typer.echo(one_line(f"left out: {problem}"), err=True)


@app.command("check-data")
def check(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders; or a recipe; or a COCO JSON file and the folder of its images (and that of its PNG files). "
            "And overrides, such as data.root=FOLDER."
        ),
    ],
    format: options.FormatOption = None,
    split: Annotated[list[str] | None, typer.Option(help="Which part; may be repeated. Else train and val.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("data-check"),
    workers: Annotated[
        int | None, typer.Option(help="Processes that read; else one for each processor.", min=1, max=256)
    ] = None,
    limit: options.Limit = None,
    pictures: Annotated[int, typer.Option(help="Samples of each split to draw.", min=0, max=options.MOST)] = 12,
    timeout: Annotated[float, typer.Option(help="Seconds that an image may take.", min=0.001)] = 60,
    fix: Annotated[Path | None, typer.Option(help="New folder for a corrected copy (COCO's formats).")] = None,
) -> None:
    """Look through a data set before training: names what is wrong, file by file. Status 1 if it has errors.

    Example: unisegment check-data data/mine
    """
    with importing():
        from unisegment.checking.check import check_data
        from unisegment.checking.sources import find_parts, sources_and_overrides
    names, overrides = sources_and_overrides(sources)
    parts = find_parts(names, format, split or ("train", "val"), overrides)
    typer.echo(f"Checking as {parts[0].data.format}.")
    report = check_data(parts, output, workers=workers, limit=limit, pictures=pictures, timeout=timeout, fix=fix)
    # Names of files need not be text.
    typer.echo(report.table().encode("utf-8", "backslashreplace").decode())
    typer.echo(f"{output / 'report.html'}, {output / 'report.json'}")
    raise typer.Exit(FAILED if report.num_errors else 0)


app.command("convert-data")(convert_data)


@app.command()
def recipes(word: Annotated[str, typer.Argument(help="List only recipes with this word in their line.")] = "") -> None:
    """List the recipes that come with unisegment: format of the data, weights or backbone, and length of each.

    Example: unisegment recipes coco
    """
    from unisegment.runs.recipe_list import list_recipes

    typer.echo("\n".join(list_recipes(word)))


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(help="Folder (of a run, too) or Hub id; or a file of the original code, .pkl or .pth."),
    ],
    destination: Annotated[Path, typer.Argument(help="Folder; or, for the original, a file of these kinds.")],
    to: Annotated[
        Format | None, typer.Option(help="Whose checkpoint to write: the original's for such a file, else unisegment.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Class names: coco_panoptic, ade20k, …, or a .json file.")] = None,
    license: Annotated[
        str | None, typer.Option(help="Licence of the weights in an original file; else that of its authors' weights.")
    ] = None,
) -> None:
    """Rewrite a checkpoint of unisegment, transformers or the original code for another of these.

    Example: unisegment convert model_final.pkl my_model --labels coco_panoptic
    """
    from unisegment.ops.weight_sources import find_checkpoint

    find_checkpoint(source)
    with importing():
        from unisegment.data.categories import label_names
        from unisegment.models import checkpoints
    id2label = None if labels is None else label_names(labels)
    to = to or checkpoints.format_of(destination)
    model = checkpoints.convert(source, destination, to, id2label, license=license)
    sizes = [f"{model.config.num_labels} classes", *model.family().describe(model.config)]
    typer.echo(f"{destination}: a checkpoint of {to}, {', '.join(sizes)}")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run (run.output_dir), or of a checkpoint.")],
    repo: Annotated[str, typer.Argument(help="user/name, or name alone for your own; made when it is missing.")],
    private: Annotated[bool, typer.Option("--private", help="Nobody else sees it.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, made when it is missing.")] = None,
    format: Annotated[
        Layout, typer.Option(help="auto: transformers' own layout where it can hold the model, else unisegment.")
    ] = "auto",
    license: Annotated[str | None, typer.Option(help="Licence of the weights, where it is yours to choose.")] = None,
    message: Annotated[str, typer.Option(help="First line of the commit.")] = "Upload a model of unisegment",
) -> None:
    """Upload a model to the Hugging Face Hub, with a model card written from its run, and print the address.

    Example: unisegment push runs/mine user/cows
    """
    from unisegment.files import require_folder

    require_folder(folder)
    with importing():
        from unisegment import hub
    address = hub.push(
        folder, repo, private=private, revision=revision, format=format, license=license, message=message
    )
    typer.echo(address)


@app.command()
def info() -> None:
    """Print versions, devices, and whether the compiled kernel runs. Paste it into a bug report.

    Example: unisegment info
    """
    with importing():
        from unisegment.ops.environment import environment
    for name, value in environment():
        typer.echo(f"{name:<16} {value}")
