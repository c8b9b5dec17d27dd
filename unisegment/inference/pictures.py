# SPDX-License-Identifier: Apache-2.0
"""A predictor and some images in, pictures of its predictions beside the annotation and of the errors out."""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from PIL import Image

from unisegment.inference.images import Report, Samples, targets_of
from unisegment.inference.predictor import Predictor
from unisegment.structures import TASKS
from unisegment.visualization import Drawable, draw_sheet

_NAME_BYTES = 150


def draw_images(
    predictor: Predictor,
    samples: Samples,
    places: Sequence[int],
    *,
    tasks: Collection[str] = TASKS,
    on_unreadable: Report | None = None,
) -> Iterator[tuple[str, Image.Image]]:
    """Give the name of a file and a picture for each image, one after the other.

    Args:
        predictor: Makes the predictions.
        samples: Annotated images.
        places: Which of them.
        tasks: Which predictions to show, of those that the processor reads. Instances are shown above a score of 0.5,
            and only where a label is a thing.
        on_unreadable: Is told what is wrong with images that cannot be read, which are then left out. None raises.
    """
    tasks = [task for task in tasks if task in predictor.tasks]
    for batch, outputs in predictor.stream(samples, places, on_unreadable=on_unreadable):
        found: dict[str, Drawable] = {}
        if "semantic" in tasks:
            found["semantic"] = predictor.semantic(batch, outputs)[0]
        if "instance" in tasks and predictor.thing_label_ids:
            found["instance"] = predictor.instance(batch, outputs, threshold=0.5)[0]
        if "panoptic" in tasks:
            found["panoptic"] = predictor.panoptic(batch, outputs)[0]
        (item,), (target,) = batch, targets_of(batch)
        things = predictor.thing_label_ids
        sheet = draw_sheet(item.image.image, found, predictor.id2label, target=target, thing_label_ids=things)
        yield f"{item.number:05d}_{short_stem(item.image.file_name)}.png", sheet


def short_stem(file_name: str) -> str:
    """Return the end of a file's name before its ending, without what is no text in UTF-8: any file may have it."""
    stem = Path(os.path.basename(file_name)).stem
    return stem.encode("utf-8", "ignore")[-_NAME_BYTES:].decode("utf-8", "ignore").replace("\0", "")
