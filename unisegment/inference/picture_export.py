# SPDX-License-Identifier: Apache-2.0
"""Predictions in, a picture of each and one JSON file of all segments out: the export format for people."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unisegment.data.export.format import ExportedImage, ExportFormat, Parts, save_png, stream_json
from unisegment.structures import TASKS, Category
from unisegment.visualization import draw


class Pictures(ExportFormat):
    """`NAME.png` shows what was found in the image NAME; `predictions.json` lists the segments of all images.

    Args:
        output: As for every format.
        categories: As there.
        run_name: As there.
        task: What is shown: "panoptic", "instance" or "semantic".
    """

    part_kinds: ClassVar = {"picture": str, "task": str, "segments_info": list}

    def __init__(
        self, output: Path, categories: Sequence[Category], run_name: str = "unisegment", *, task: str = "panoptic"
    ) -> None:
        super().__init__(output, categories, run_name)
        self.tasks = (task,)
        self.settings = {"task": task}
        self.id2label = {label: category.name for label, category in enumerate(self.categories)}

    def write(self, image: ExportedImage, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """Write the picture of one image, see `ExportFormat.write`."""
        (task, prediction), *_ = predictions.items()
        assert image.pixels is not None
        name = f"{self.stem(image.file_name)}.png"
        save_png(self.place(name), np.asarray(draw(image.pixels, prediction, self.id2label)))
        infos = [{**info, "label": self.id2label[info["label_id"]]} for info in prediction.segments_info]
        return {"picture": name, "task": task, "segments_info": infos}

    def finish(self, parts: Parts) -> None:
        """Write the list of all segments, see `ExportFormat.finish`."""
        stream_json(self.place("predictions.json"), parts())


def pictures_of(task: str) -> Any:
    """Return the format for pictures of a task; a ValueError says that there is no such task."""
    if task not in TASKS:
        raise ValueError(f"The task must be one of {', '.join(TASKS)}, got {task!r}.")
    return partial(Pictures, task=task)
