# SPDX-License-Identifier: Apache-2.0
"""What a model sees in one image: predictions made when they are asked for, drawn, measured and saved."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from unisegment.data.export.format import save_png
from unisegment.data.export.saving import save
from unisegment.inference import measures
from unisegment.inference.images import Batch, PreparedImage
from unisegment.inference.pictures import short_stem
from unisegment.inference.predictor import Predictor
from unisegment.inference.table import table
from unisegment.ops.polygons import Polygon
from unisegment.postprocessing.resize import check_share
from unisegment.structures import (
    TASKS,
    InstancePrediction,
    PanopticPrediction,
    Prediction,
    SegmentationTarget,
    SemanticPrediction,
)
from unisegment.visualization import draw, draw_errors

_KINDS = {"panoptic": PanopticPrediction, "instance": InstancePrediction, "semantic": SemanticPrediction}


@dataclass(frozen=True, eq=False)
class Result:
    """One image, and what a model sees in it. All three predictions come from one forward pass, made when asked for.

    It holds the output of the network, some 30 MB for an image of 1024x1024, until it is let go of. What is pickled has
    no weights, unless semantic results are made from several sizes of the image: these ask the network again.

    Args:
        item: The image, prepared.
        outputs: What the model made of it alone.
        predictor: The model.
        threshold: Score in [0, 1] that an object of `instance` must exceed.

    Raises:
        ValueError: When the threshold is none of these.
    """

    item: PreparedImage
    outputs: Any
    predictor: Predictor
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_share("threshold", self.threshold)

    def __getstate__(self) -> dict[str, Any]:
        if self.predictor.scales is not None:
            return self.__dict__
        without_weights = SimpleNamespace(config=self.predictor.model.config)
        return self.__dict__ | {"predictor": replace(self.predictor, model=without_weights, network=None)}

    @property
    def image(self) -> UInt8[np.ndarray, "h w 3"]:
        """The image: red, green and blue, upright."""
        return self.item.image.image

    @property
    def name(self) -> str:
        """Where the image was read from, or its number among those given."""
        return self.item.image.file_name

    @property
    def task(self) -> str:
        """What the model's labels are made for, which is shown when nothing else is asked for."""
        return self.predictor.task

    @cached_property
    def panoptic(self) -> PanopticPrediction:
        """Each pixel belongs to one segment or to none, at the image's own size."""
        return self.predictor.panoptic([self.item], self.outputs)[0]

    @cached_property
    def instance(self) -> InstancePrediction:
        """The objects with a score above the threshold, the best first, at the image's own size."""
        return self.predictor.instance([self.item], self.outputs, self.threshold)[0]

    @cached_property
    def semantic(self) -> SemanticPrediction:
        """The label of each pixel, at the image's own size."""
        return self.predictor.semantic([self.item], self.outputs)[0]

    def of(self, what: str | Prediction | None = None) -> Prediction:
        """Return a prediction: that of a task, one that is given, such as `result.panoptic.filter(score=0.9)`, or ours.

        Args:
            what: "panoptic", "instance" or "semantic"; a prediction of this image; None is that of `task`.

        Raises:
            ValueError: When it is no task and no prediction.
        """
        what = self.task if what is None else what
        if isinstance(what, Prediction):
            return what
        if what not in TASKS:
            raise ValueError(f"The task must be one of {', '.join(TASKS)}, got {what!r}.")
        return getattr(self, what)

    def draw(self, what: str | Prediction | None = None, **options: Any) -> Image.Image:
        """Return a picture of a prediction over the image.

        Args:
            what: See `of`.
            **options: Of `unisegment.draw`.
        """
        return draw(self.image, self.of(what), self.predictor.id2label, **options)

    def draw_errors(
        self, target: SegmentationTarget, what: str | Prediction | None = None, **options: Any
    ) -> Image.Image:
        """Return a picture of what is right and what is wrong.

        Args:
            target: The annotation of the image, with the labels of the checkpoint.
            what: See `of`.
            **options: Of `unisegment.visualization.draw_errors`; of instances, only things are compared.
        """
        prediction = self.of(what)
        labels = self.predictor.thing_label_ids if isinstance(prediction, InstancePrediction) else None
        return draw_errors(self.image, prediction, target, self.predictor.id2label, **{"labels": labels, **options})

    def measure(self, what: str | Prediction | None = None) -> list[dict[str, Any]]:
        """Return area, box and centroid of each segment, see `unisegment.inference.measures.measure`."""
        return measures.measure(self.of(what))

    def polygons(self, what: str | Prediction | None = None, tolerance: float = 0.0) -> list[list[Polygon]]:
        """Return the outline of each segment, see `unisegment.inference.measures.polygons`."""
        return measures.polygons(self.of(what), tolerance)

    def to_coco(self, what: str | Prediction | None = None, image_id: int | str | None = None) -> list[dict[str, Any]]:
        """Return the segments as COCO lists them, with the category ids of the checkpoint.

        Args:
            what: See `of`.
            image_id: COCO's id of the image; None takes the number that its file name is, or its place.
        """
        image_id = self.item.image.image_id if image_id is None else image_id
        return measures.to_coco(self.of(what), image_id, self.predictor.categories)

    def to_supervision(self, what: str | Prediction | None = None) -> Any:
        """Return the segments as `supervision.Detections`; the package supervision must be installed."""
        return measures.to_supervision(self.of(what))

    def save(self, folder: str | os.PathLike[str], what: str | Prediction | None = None) -> list[Path]:
        """Write a picture, the map of ids and a JSON file of the segments, named after the image.

        `photo.jpg` gives `photo_overlay.png`, `photo_panoptic.png` and `photo_panoptic.json`; what is in the last two,
        `unisegment.save` says. Files of these names are replaced.

        Args:
            folder: Is made when it is missing.
            what: See `of`.

        Returns:
            The three files.

        Raises:
            WriteError: When a file cannot be written.
        """
        prediction = self.of(what)
        task = next(task for task, kind in _KINDS.items() if isinstance(prediction, kind))
        stem = short_stem(self.name) or "image"
        picture, ids = (Path(folder) / f"{stem}_{kind}.png" for kind in ("overlay", task))
        save_png(picture, np.asarray(self.draw(prediction)))
        save(ids, prediction, self.predictor.id2label)
        return [picture, ids, ids.with_suffix(".json")]

    def __str__(self) -> str:
        height, width, _ = self.image.shape
        return f"{self.name}: {width}x{height}\n{table(self.of())}"

    def __repr__(self) -> str:
        height, width, _ = self.image.shape
        return f"Result({self.name!r}, {height}x{width}, task={self.task!r})"


def results_of(batch: Batch, outputs: Any, predictor: Predictor, threshold: float) -> Iterator[Result]:
    """Give the result of each image of a batch; it holds nothing of its neighbours.

    Args:
        batch: The images.
        outputs: What the network made of them.
        predictor: The model.
        threshold: As for `Result`.
    """
    names, end = predictor.processor.read_outputs, 0
    for item in batch:
        first, end = end, end + len(item.pixel_values)
        own = {name: getattr(outputs, name)[first:end] for name in names}
        if len(batch) > 1:  # a view would keep all of it
            own = {name: value.clone() for name, value in own.items()}
        item = item._replace(  # the network has seen these already
            pixel_values=torch.empty(1, 3, 0, 0), pixel_mask=torch.empty(1, 0, 0, dtype=torch.int64)
        )
        yield Result(item, type(outputs)(**own), predictor, threshold)
