# SPDX-License-Identifier: Apache-2.0
"""The kinds of files that are damaged, and the ways in which the library opens each of them."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from fuzzing.exports import DAMAGED
from PIL import Image

from unisegment import UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.checking import fixing
from unisegment.checking.opening import Part, open_part
from unisegment.checking.parallel import Failure
from unisegment.checking.sample_check import SampleCheck
from unisegment.cli import app
from unisegment.data.formats import open_data_set
from unisegment.data.image_sources import ImageFolder
from unisegment.data.problems import CollectedProblems
from unisegment.data.reading.hugging_face_images import HuggingFaceImages
from unisegment.data.reading.image_reading import ImageReading, read_image
from unisegment.data.reading.label_maps import IMAGE_ENDINGS
from unisegment.hub.staging import stage
from unisegment.metrics import panoptic_quality_from_files
from unisegment.models.checkpoints import open_checkpoint
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.recipe import load_recipe
from unisegment.runs.settings import parse_overrides
from unisegment.structures import Category
from unisegment.training.assembly import check_model

WORKING_FOLDER = b"@WORKING-FOLDER@"
"""Stands for the path of the folder in which files are opened."""


@dataclass(frozen=True)
class Door:
    """One way of opening files.

    Args:
        name: Of what opens them.
        open: Opens them in the working folder. It raises ValueError or OSError for those that it refuses.
        files: All of them, by path.
        damaged: Paths of those that are damaged.
        weight: How often it is taken, compared with the others of its kind.
    """

    name: str
    open: Callable[[], Any]
    files: Mapping[str, bytes]
    damaged: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Kind:
    """One kind of files.

    Args:
        share: Of all inputs; those of all kinds make 1.
        doors: Where they are opened.
        may_connect: Whether it names things that may lie elsewhere, so that the library asks for them.
    """

    share: float
    doors: tuple[Door, ...]
    may_connect: bool = False


class CommandError(Exception):
    """A command did not end as promised: status 0, or 1 or 2 and a line that begins with `error: ` or `left out: `.

    There is one line of an error; images that cannot be read are left out, a line for each, when others are finished.

    Args:
        message: What it said.
        trace: The traceback, from `--debug`.
    """

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace


_UNFORESEEN = ("This is a fault of unisegment", "there is not enough memory")


def _command(*words: str) -> Callable[[], None]:
    def run() -> None:
        status = app([words[0], "--debug", *words[1:]], standalone_mode=False)
        sys.stdout.flush()
        sys.stderr.flush()
        text = Path("../said.txt").read_text(errors="replace")
        errors, left_out = (
            [line for line in text.splitlines() if line.startswith(start)] for start in ("error: ", "left out: ")
        )
        is_said = len(errors) == bool(status) or (status == 1 and not errors and left_out)
        if status not in (None, 0, 1, 2) or not is_said or any(words in errors[0] for words in _UNFORESEEN if errors):
            raise CommandError(
                f"status {status}: {errors}", text[text.rfind("Traceback (most") : text.rfind("error: ")]
            )
        if status:
            raise ValueError([*errors, *left_out][0])

    return run


def make_kinds(folder: Path) -> dict[str, Kind]:
    """Return all kinds by name.

    Args:
        folder: As `make_seeds` has filled it.
    """
    return {
        "images": Kind(0.26, (*_image_doors(folder), *_map_doors(folder))),
        "instances": Kind(0.15, _instance_doors(folder)),
        "panoptic": Kind(0.15, _panoptic_doors(folder)),
        "exports": Kind(0.04, _export_doors(folder)),
        "configs": Kind(0.07, _config_doors(folder)),
        "processors": Kind(0.08, _processor_doors(folder)),
        "recipes": Kind(0.14, _recipe_doors(folder), may_connect=True),
        "weights": Kind(0.08, _weight_doors(folder)),
        "states": Kind(0.03, _state_doors(folder)),
    }


def _files(root: Path, *patterns: str) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for pattern in patterns
        for path in sorted(root.glob(pattern))
        if path.is_file()
    }


def _all(samples: Any) -> None:
    """Open every sample, and raise the last error."""
    refused: Exception | None = None
    for number in range(len(samples)):
        try:
            samples[number]
        except (ValueError, OSError) as error:
            refused = error
    if refused is not None:
        raise refused


def _check(part: Part) -> None:
    """Do what check-data does for a part, in this process."""
    opened = open_part(part, CollectedProblems())
    _all(_Checked(SampleCheck(opened, {0}), len(opened)))


@dataclass(frozen=True)
class _Checked:
    check: Callable[[int], Any]
    number: int

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Any:
        return self.check(index)


def _checking(data_format: str, root: str, split: str) -> Callable[[], None]:
    return lambda: _check(Part(DataRecipe(root=root, format=data_format), split))  # type: ignore[arg-type]


def _fixing(data_format: str, root: str, split: str) -> Callable[[], None]:
    parts = [Part(DataRecipe(root=root, format=data_format), split)]  # type: ignore[arg-type]

    def fix() -> None:
        fixing.run_parallel = _in_this_process  # what comes from another one is a pickle, which counts as code
        fixing.fix_data(parts, Path("fixed"), progress=False)

    return fix


def _in_this_process(task: Callable[[int], Any], numbers: Iterable[int], *_: Any) -> Iterator[tuple[int, Any]]:
    for number in numbers:
        try:
            yield number, task(number)
        except Exception as error:
            yield number, Failure("raised", str(error))


def _image_doors(folder: Path) -> tuple[Door, ...]:
    checkpoint = _files(folder, "run/checkpoint/*")
    doors = []
    for name, content in _files(folder / "images", "*").items():
        for reading in (ImageReading(), ImageReading("stored", "percentile", keeps_floats=True)):
            opens = lambda name=name, reading=reading: read_image(Path(name), reading=reading)  # noqa: E731
            doors.append(Door("read_image", opens, {name: content}, (name,), 4))
        place = f"in/{name}"
        words = ("predict", "run/checkpoint", "in", "out", "--to", "label_png")
        if Path(name).suffix in IMAGE_ENDINGS:
            doors.append(Door("predict", _command(*words), {place: content, **checkpoint}, (place,), 0.05))
    return tuple(doors)


def _map_doors(folder: Path) -> tuple[Door, ...]:
    files = _files(folder, "maps/**/*")
    semantic = (*(name for name in files if "instances" not in name),)
    instances = (*(name for name in files if "labels" not in name),)
    return (
        Door("png_semantic", lambda: _all(open_data_set("maps", "png_semantic", "val")), files, semantic, 12),
        Door("png_instance", lambda: _all(open_data_set("maps", "png_instance", "val")), files, instances, 12),
        Door("check_data png_semantic", _checking("png_semantic", "maps", "val"), files, semantic, 6),
        Door("check_data png_instance", _checking("png_instance", "maps", "val"), files, instances, 6),
    )


def _instance_doors(folder: Path) -> tuple[Door, ...]:
    files, file = _files(folder, "instances/**/*"), "instances/instances.json"
    listed = {**files, **_files(folder, "run/checkpoint/*")}
    predict = _command("predict", "run/checkpoint", "instances/images", "out", "--images", file, "--to", "label_png")
    objects = "instances/objects.json"
    return (
        Door("column of objects", _open_objects, _files(folder, objects), (objects,), 2),
        Door("coco_instance", lambda: _all(open_data_set("instances", "coco_instance")), files, (file,), 6),
        Door("check_data", _checking("coco_instance", "instances", "train"), files, (file,), 2),
        Door("fix_data", _fixing("coco_instance", "instances", "train"), files, (file,), 1),
        Door("list of images", lambda: _all(ImageFolder("instances/images", file)), files, (file,), 1),
        Door("predict a list", predict, listed, (file,), 0.1),
    )


def _open_objects() -> None:
    pixels = np.zeros((24, 32, 3), dtype=np.uint8).tolist()
    try:
        content = json.loads(Path("instances/objects.json").read_bytes())
        rows = Dataset(pa.table({"image": [pixels], "objects": [content]}))
    except (pa.ArrowException, TypeError, OverflowError, RecursionError) as error:
        raise ValueError("This cannot be a column.") from error
    columns = {"image": "image", "objects": "objects"}
    _all(
        HuggingFaceImages(
            rows, columns, [Category(number, str(number), True, (0, 0, 0)) for number in (1, 2, 3)], "rows"
        )
    )


def _panoptic_doors(folder: Path) -> tuple[Door, ...]:
    files = _files(folder, "scenes/**/*")
    file = "scenes/annotations/panoptic_val.json"
    maps = tuple(name for name in files if "panoptic_val/" in name)
    predicted = {
        name.replace("scenes/annotations/panoptic_val", "predicted/segments"): content
        for name, content in files.items()
        if name in (file, *maps)
    }
    pair = {**files, **predicted}
    damaged = (file, file, *maps)
    evaluate = lambda: panoptic_quality_from_files(  # noqa: E731
        file, file.removesuffix(".json"), "predicted/segments.json", "predicted/segments"
    )
    return (
        Door("coco_panoptic", lambda: _all(open_data_set("scenes", "coco_panoptic", "val")), files, damaged, 3),
        Door("check_data", _checking("coco_panoptic", "scenes", "val"), files, damaged, 1),
        Door("fix_data", _fixing("coco_panoptic", "scenes", "val"), files, damaged, 0.5),
        Door("panoptic_quality_from_files", evaluate, pair, (*predicted, *predicted, *damaged), 3),
    )


def _export_doors(folder: Path) -> tuple[Door, ...]:
    doors = []
    for name, patterns in DAMAGED.items():
        root = f"exports/{name}"
        files = _files(folder, f"{root}/**/*")
        damaged = (*_files(folder, *(f"{root}/{pattern}" for pattern in patterns)),)
        opens = lambda root=root, name=name: _all(open_data_set(root, name))  # noqa: E731
        doors.append(Door(name, opens, files, damaged, 4))
        doors.append(Door(f"check_data {name}", _checking(name, root, "train"), files, damaged, 1))
    return tuple(doors)


def _config_doors(folder: Path) -> tuple[Door, ...]:
    doors = []
    for name in ("run/checkpoint", "stock", "named"):
        files, damaged = _files(folder, f"{name}/*"), (f"{name}/config.json",)
        opens = lambda name=name: open_checkpoint(name)  # noqa: E731
        doors.append(Door(f"from_pretrained {name}", opens, files, damaged, 4))
        doors.append(Door(f"convert {name}", _command("convert", name, "out"), files, damaged, 1))
    files = _files(folder, "original.pth", "labels.json")
    words = ("convert", "original.pth", "out", "--labels", "labels.json")
    return (*doors, Door("convert --labels", _command(*words), files, ("labels.json",), 0.5))


def _open_processor(name: str) -> None:
    processor = UniSegmentImageProcessor.from_pretrained(name)
    image = Image.fromarray(np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3))
    inputs = processor(images=[image], return_tensors="pt")
    outputs = {
        "class_queries_logits": torch.linspace(-4, 4, 27).reshape(1, 3, 9),
        "masks_queries_logits": torch.linspace(-4, 4, 3 * 6 * 8).reshape(1, 3, 6, 8),
    }
    assert inputs["pixel_values"].ndim == 4
    processor.post_process_panoptic_segmentation(type("Outputs", (), outputs), target_sizes=[(24, 32)])


def _processor_doors(folder: Path) -> tuple[Door, ...]:
    doors = []
    for name in ("run/checkpoint", "stock", "processor"):
        files = _files(folder, f"{name}/*.json")
        opens = lambda name=name: _open_processor(name)  # noqa: E731
        doors.append(Door(f"processor {name}", opens, files, (f"{name}/preprocessor_config.json",), 3))
    files = _files(folder, "run/checkpoint/*")
    damaged = ("run/checkpoint/preprocessor_config.json",)
    return (*doors, Door("convert", _command("convert", "run/checkpoint", "out"), files, damaged, 0.5))


def _open_recipe() -> None:
    check_model(load_recipe("recipe.yaml"))


def _recipe_doors(folder: Path) -> tuple[Door, ...]:
    files = _files(folder, "recipe.yaml")
    words = json.dumps(_WORDS).encode()
    overrides = lambda: load_recipe("recipe.yaml", parse_overrides(_pairs("words.json")))  # noqa: E731
    planned = {**files, **_files(folder, "scenes/**/*")}
    return (
        Door("load_recipe", _open_recipe, files, ("recipe.yaml",), 8),
        Door("overrides", overrides, {**files, "words.json": words}, ("words.json",), 3),
        Door("train --dry-run", _command("train", "recipe.yaml", "--dry-run"), planned, ("recipe.yaml",), 0.2),
    )


_WORDS = {"data.root": "x", "optim.lr": "1e-4", "model.config.num_queries": "5", "schedule.milestones": "[0.5]"}


def _pairs(file: str) -> list[str]:
    """Return what a shell would hand over: any text, but no NUL."""
    try:
        content = json.loads(Path(file).read_bytes())
    except RecursionError:
        return []
    return [f"{key}={value}".replace("\0", "") for key, value in (content.items() if isinstance(content, dict) else ())]


def _weight_doors(folder: Path) -> tuple[Door, ...]:
    doors = []
    for ending in ("pkl", "pth", "safetensors"):
        name = f"original.{ending}"
        files = _files(folder, name)
        opens = lambda name=name: UniSegmentForUniversalSegmentation.from_original(name)  # noqa: E731
        doors.append(Door(f"from_original .{ending}", opens, files, (name,), 3))
        doors.append(Door(f"convert .{ending}", _command("convert", name, "out"), files, (name,), 0.5))
    damaged = {
        "run/checkpoint": ("model.safetensors",),
        "sharded": ("model.safetensors.index.json",),
        "pickled": ("pytorch_model.bin",),
        "stock": ("model.safetensors",),
    }
    for name, parts in damaged.items():
        files = _files(folder, f"{name}/*")
        opens = lambda name=name: open_checkpoint(name)  # noqa: E731
        doors.append(Door(f"from_pretrained {name}", opens, files, tuple(f"{name}/{part}" for part in parts), 2))
    return tuple(doors)


def _state_doors(folder: Path) -> tuple[Door, ...]:
    files = _files(folder, "recipe.yaml", "run/*", "run/checkpoint*/**/*", "scenes/**/*")
    train = _command("train", "recipe.yaml")
    unfinished = {name: content for name, content in files.items() if name != "run/metrics.json"}
    state = tuple(name for name in unfinished if "/step-" in name)
    old = {**_files(folder, "recipe.yaml", "scenes/**/*"), **_files(folder / "old", "run/*.*", "run/checkpoints/**/*")}
    del old["run/metrics.json"]
    old_state = tuple(name for name in old if name.endswith((".pkl", ".bin")))
    finished = ("run/metrics.json", "run/recipe.yaml", "run/checkpoint/config.json")
    predicted = _files(folder, "run/checkpoint/*", "instances/images/*", "predicted/**/*")
    parts = tuple(name for name in predicted if "/parts/" in name)
    for name in parts:  # which say what they were made of
        predicted[name] = predicted[name].replace(str(folder).encode(), WORKING_FOLDER)
    predict = _command("predict", "run/checkpoint", "instances/images", "predicted")
    beside = tuple(name for name in unfinished if name.startswith("run/") and "/step-" not in name)
    return (
        Door("train, state", train, unfinished, state, 4),
        Door("train, state of 0.1", train, old, old_state, 4),
        Door("train, run folder", train, unfinished, beside, 1),
        Door("train, finished", train, files, ("run/metrics.json", "run/recipe.yaml"), 1),
        Door("push, until it uploads", lambda: stage("run", "out", "a/b"), files, finished, 1),
        Door("predict on", predict, predicted, parts, 1),
    )
