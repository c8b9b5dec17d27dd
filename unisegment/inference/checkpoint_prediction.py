# SPDX-License-Identifier: Apache-2.0
"""A checkpoint and a folder of images, or a data set, in; files of its predictions out."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unisegment.data.annotated_images import AnnotatedImages, with_range
from unisegment.data.choices import Matching
from unisegment.data.export import open_export
from unisegment.data.image_folder import ImageFolder
from unisegment.inference.augmentation import SCALES, AugmentedPredictor
from unisegment.inference.checkpoint_evaluation import open_matched, open_predictor
from unisegment.inference.images import Samples
from unisegment.inference.prediction import digest, predict
from unisegment.inference.predictor import Predictor
from unisegment.models.choices import Dtype
from unisegment.ops.tf32 import use_tf32
from unisegment.ops.weight_sources import find_checkpoint
from unisegment.runs.folder_lock import locked
from unisegment.structures import Category


def predict_images(
    checkpoint: str | os.PathLike[str],
    images: ImageFolder | AnnotatedImages,
    output: Path,
    export_format: str,
    *,
    source: str = "",
    size: Mapping[str, int] | None = None,
    panoptic_threshold: float = 0.8,
    threshold: float = 0.0,
    top_k: int = 100,
    matching: Matching = "name",
    augment: bool = False,
    run_name: str = "unisegment",
    batch_size: int = 1,
    workers: int = 0,
    skip_unreadable: bool = False,
    dtype: Dtype = "auto",
    tf32: bool = True,
) -> dict[str, Any]:
    """Write predictions of a checkpoint of any code base; all processes share the images, and a rerun goes on.

    Args:
        checkpoint: As for `evaluate_checkpoint`.
        images: A folder, or a data set, whose categories the files then have.
        output: Folder for the files; see `unisegment.data.export` for those of each format.
        export_format: Name of the format.
        source: What the images are, in words; a run on another source does not go on in the same folder.
        size: The processor's `size`; None takes that of the checkpoint.
        panoptic_threshold: Smallest score of a panoptic segment.
        threshold: Score that an object must exceed; 0, as for evaluation, keeps the `top_k` best.
        top_k: Most objects of an image.
        matching: How labels of the checkpoint and of the data set are matched, see `match_labels`.
        augment: Make semantic results from several sizes of each image, mirrored and not.
        run_name: Name of the algorithm in the names of files for servers.
        batch_size: Most images that go through the model together.
        workers: Processes that load images.
        skip_unreadable: Leave out images that cannot be read, and list them, rather than raise.
        dtype: As for `evaluate_checkpoint`.
        tf32: As there.

    Returns:
        What `predict` does.

    Raises:
        FileNotFoundError: When there is no such checkpoint.
        ValueError: When the checkpoint cannot be read, its labels do not fit, a threshold is not from 0 to 1, `dtype`
            is unknown, the folder holds other files or another run, or names of images lead out of it.
        WriteError: When something cannot be written; what is finished stays.
    """
    if isinstance(images, ImageFolder):
        images.leave_out(output)
    checkpoint = find_checkpoint(checkpoint)
    predictor, samples, categories = _open(checkpoint, images, size, panoptic_threshold, matching, dtype)
    kind = AugmentedPredictor if augment else Predictor
    predictor = kind(predictor.model, predictor.processor, panoptic_threshold, top_k)
    names = dict(enumerate(images.names)) if isinstance(images, ImageFolder) else None
    settings = {
        "checkpoint": checkpoint,
        "source": source,
        "format": export_format,
        "images": len(images),
        "image_names": None if names is None else digest(list(names.values())),
        "categories": [[category.id, category.name] for category in categories],
        "size": predictor.processor.size,
        "panoptic_threshold": panoptic_threshold,
        "threshold": threshold,
        "top_k": top_k,
        "test_time_augmentation": list(SCALES) if augment else None,
        "run_name": run_name,
        # None, so that a folder begun before there was a choice can be gone on with.
        "dtype": None if dtype == "auto" else dtype,
        "tf32": None if tf32 else False,
    }
    with locked(output), use_tf32(tf32):
        return predict(
            predictor,
            samples,
            names,
            open_export(export_format, output, categories, run_name),
            settings=settings,
            threshold=threshold,
            batch_size=batch_size,
            workers=workers,
            skip_unreadable=skip_unreadable,
        )


def _open(
    checkpoint: str | os.PathLike[str],
    images: ImageFolder | AnnotatedImages,
    size: Mapping[str, int] | None,
    panoptic_threshold: float,
    matching: Matching,
    dtype: Dtype,
) -> tuple[Predictor, Samples, list[Category]]:
    """Return the predictor, the images with its labels, and the category of each label."""
    if isinstance(images, ImageFolder):
        predictor = open_predictor(checkpoint, size, panoptic_threshold, dtype)
        images = with_range(images, predictor.processor.reading.range)
        return predictor, images, predictor.categories
    predictor, samples = open_matched(checkpoint, images, size, panoptic_threshold, matching, dtype=dtype)
    return predictor, samples, samples.categories
