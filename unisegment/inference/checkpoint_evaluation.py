# SPDX-License-Identifier: Apache-2.0
"""A checkpoint and a data set in; a report, and pictures of what went worst, out."""

import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from unisegment.data.annotated_images import AnnotatedImages, with_range
from unisegment.data.choices import Matching
from unisegment.data.label_spaces import MatchedSamples, match_labels
from unisegment.files import filled_folder, make_folder, require_own, write_text
from unisegment.inference.augmentation import SCALES, AugmentedPredictor
from unisegment.inference.evaluation import TASKS, JudgedImage, evaluate
from unisegment.inference.images import Samples
from unisegment.inference.pictures import draw_images
from unisegment.inference.predictor import Predictor
from unisegment.inference.report import make_report
from unisegment.models.choices import Dtype
from unisegment.models.conversion import open_model, open_processor
from unisegment.ops.tf32 import use_tf32
from unisegment.ops.weight_sources import find_checkpoint


def evaluate_checkpoint(
    checkpoint: str | os.PathLike[str],
    samples: AnnotatedImages,
    *,
    tasks: Collection[str] = TASKS,
    size: Mapping[str, int] | None = None,
    panoptic_threshold: float = 0.8,
    top_k: int = 100,
    matching: Matching = "name",
    boundaries: bool = True,
    augment: bool = False,
    output: Path | None = None,
    worst: int = 0,
    limit: int | None = None,
    batch_size: int = 1,
    workers: int = 0,
    skip_unreadable: bool = False,
    dtype: Dtype = "auto",
    tf32: bool = True,
) -> dict[str, Any]:
    """Judge a checkpoint of any code base; all processes share the images.

    Args:
        checkpoint: Ours, a stock one of transformers, a file of the original code, or the folder of a finished run.
        samples: Annotated images.
        tasks: What is judged, of `unisegment.inference.evaluation.TASKS`.
        size: The processor's `size`; None takes that of the checkpoint.
        panoptic_threshold: Smallest score of a panoptic segment.
        top_k: Most objects of an image. Above 100, COCO's rules judge as many of an image and category.
        matching: How labels are matched, see `match_labels`. What is stuff, the data set says.
        boundaries: Also judge boundaries.
        augment: Make semantic results from several sizes of each image, mirrored and not.
        output: Folder for `metrics.json` and the pictures, which replace those of an earlier evaluation; None writes
            nothing.
        worst: How many of the worst images are drawn, into `worst/`.
        limit: Most images that are judged, the first ones; None judges all.
        batch_size: Most images that go through the model together.
        workers: Processes that load images.
        skip_unreadable: Leave out images that cannot be read, and list them, rather than raise.
        dtype: What the network computes in; what its logits become is computed in float32.
        tf32: Let GPUs that have TF32 round float32 to it in matrix products and convolutions.

    Returns:
        What `make_report` does, with `task` (what the labels are made for), `checkpoint`, `settings`, `worst` (the file
        names, the worst first, and their quality) and `unreadable_images`.

    Raises:
        FileNotFoundError: When there is no such checkpoint.
        ValueError: When the checkpoint cannot be read, its labels are not those of the data set, a threshold is not
            from 0 to 1, `dtype` is none of these, or a file of `output` would be replaced that is of something else.
        WriteError: When something cannot be written; whether anything can be in `output` is tried first.
    """
    if output is not None:
        require_own(output, ("metrics.json", "worst"), "metrics.json", "checkpoint")
        make_folder(output)
    checkpoint = find_checkpoint(checkpoint)
    predictor, matched = open_matched(checkpoint, samples, size, panoptic_threshold, matching, limit, dtype)
    kind = AugmentedPredictor if augment else Predictor
    predictor = kind(predictor.model, predictor.processor, panoptic_threshold, top_k)
    problems = [*samples.left_out]
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "workers": workers,
        "boundaries": boundaries,
        "tasks": tasks,
        "on_unreadable": problems.extend if skip_unreadable else None,
    }
    with use_tf32(tf32):
        scores = evaluate(predictor, matched, rank_images=worst > 0, **settings)
    ranking: list[JudgedImage] = scores.get("ranking", [])[:worst]
    report = make_report(scores, predictor.id2label) | {
        "task": predictor.task,
        "checkpoint": checkpoint,
        "unisegment": metadata.version("unisegment"),
        "settings": {
            "size": predictor.processor.size,
            "panoptic_threshold": panoptic_threshold,
            "top_k": top_k,
            "test_time_augmentation": list(SCALES) if augment else None,
            "dtype": str(predictor.model.dtype).removeprefix("torch."),
            "tf32": tf32,
        },
        "worst": [{"file_name": image.file_name, "quality": image.quality} for image in ranking],
        "unreadable_images": sorted(set(gather_object(problems))),
    }
    if output is not None and PartialState().is_main_process:
        write_text(output / "metrics.json", json.dumps(report, indent=2) + "\n")
        _draw(predictor, matched, ranking, tasks, output / "worst")
    return report


def open_matched(
    checkpoint: str | os.PathLike[str],
    samples: AnnotatedImages,
    size: Mapping[str, int] | None = None,
    panoptic_threshold: float = 0.8,
    matching: Matching = "name",
    limit: int | None = None,
    dtype: Dtype = "auto",
) -> tuple[Predictor, MatchedSamples]:
    """Open a checkpoint on this process's device, and a data set with the checkpoint's labels and range; see above.

    Its categories are those of the data set, with its ids. Those that it lacks keep the checkpoint's where free.
    """
    predictor = open_predictor(checkpoint, size, panoptic_threshold, dtype)
    new_labels = match_labels(predictor.id2label, samples.id2label, matching)
    stuff = {label for label in predictor.stuff_label_ids if label not in new_labels.values()}
    predictor.processor.stuff_label_ids = sorted(stuff | {new_labels[label] for label in samples.stuff_label_ids})
    # Labels that the data set lacks must not be taken for its own.
    categories, taken = predictor.categories, {category.id for category in samples.categories}
    behind = max(taken | {category.id for category in categories}) + 1
    categories = [
        replace(category, id=behind + label) if category.id in taken else category
        for label, category in enumerate(categories)
    ]
    for label, new_label in new_labels.items():
        categories[new_label] = samples.categories[label]
    samples = with_range(samples, predictor.processor.reading.range)
    return predictor, MatchedSamples(samples, categories, new_labels, math.inf if limit is None else limit)


def open_predictor(
    checkpoint: str | os.PathLike[str],
    size: Mapping[str, int] | None = None,
    panoptic_threshold: float = 0.8,
    dtype: Dtype = "auto",
) -> Predictor:
    """Open a checkpoint of any code base on this process's device; see `evaluate_checkpoint`."""
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype must be one of {', '.join(get_args(Dtype))}, got {dtype!r}.")
    asked = {} if dtype == "auto" else {"dtype": getattr(torch, dtype)}
    model = open_model(checkpoint, **asked).eval().to(PartialState().device)
    sizes = {} if size is None else {"size": dict(size)}
    return Predictor(model, open_processor(checkpoint, model.config, **sizes), panoptic_threshold)


def _draw(
    predictor: Predictor, samples: Samples, ranking: list[JudgedImage], tasks: Collection[str], folder: Path
) -> None:
    written = set()
    if ranking:
        with filled_folder(folder) as partial:
            places = [image.number for image in ranking]
            for rank, (name, picture) in enumerate(draw_images(predictor, samples, places, tasks=tasks), start=1):
                picture.save(partial / f"{rank:02d}_{name}")
                written.add(f"{rank:02d}_{name}")
    for old in folder.glob("*.png"):  # of an earlier evaluation
        if old.name not in written:
            old.unlink()
