# SPDX-License-Identifier: Apache-2.0
"""A predictor and annotated images in, the scores of one pass over them out: panoptic, instance and semantic.

Everything is judged at the images' original size. Each process judges its share, and all get the scores of the whole.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from unisegment.inference.images import Batch, Report, Samples, load_batches
from unisegment.inference.object_counts import MostObjects
from unisegment.inference.predictor import Predictor
from unisegment.metrics import BoundaryIoU, MeanAveragePrecision, MeanIoU, PanopticQuality
from unisegment.metrics.average_precision import MAX_DETECTIONS
from unisegment.runs.processes import share_of_process
from unisegment.structures import SegmentationTarget

TASKS = ("panoptic", "instance", "semantic")


class EvaluationCancelledError(Exception):
    """An evaluation was ended before all images were judged; there are no scores."""


class JudgedImage(NamedTuple):
    """How good the prediction of one image is: PQ, mIoU or AP of it alone, NaN where there is nothing to judge."""

    quality: float
    number: int
    file_name: str


def evaluate(
    predictor: Predictor,
    samples: Samples,
    *,
    tasks: Collection[str] = TASKS,
    boundaries: bool = False,
    rank_images: bool = False,
    batch_size: int = 1,
    workers: int = 0,
    timeout: float = 0,
    is_cancelled: Callable[[], bool] = lambda: False,
    on_unreadable: Report | None = None,
) -> dict[str, Any]:
    """Judge a predictor; all processes share the images, and all get the scores.

    Args:
        predictor: Makes the predictions.
        samples: Annotated images, whose labels are those of the predictor.
        tasks: What is judged, of `TASKS`. Where segments of an image overlap, as in COCO's instances, only "instance"
            is defined, and the others are left out.
        boundaries: Also judge boundaries.
        rank_images: Also judge each image alone.
        batch_size: Most images that go through the model together. Only neighbours of equal padded size do, so that
            no score depends on it.
        workers: Processes that load images; 0 loads in this process.
        timeout: Seconds that they may take for an image; 0 waits without end.
        is_cancelled: Is asked before each batch; True in one process ends the evaluation in all.
        on_unreadable: Is told what is wrong with images that cannot be read, which are then left out. None raises.

    Returns:
        `images`, the number of images judged; for each task what its metric computes (see `unisegment.metrics`), with
        `boundary` beside it where asked for, or None where it is not defined; and, where asked for, `ranking`, a list
        of `JudgedImage`, the worst first, without those where there is nothing to judge.

    Raises:
        EvaluationCancelledError: When it was cancelled.
    """
    scores = _Scores(predictor, tasks, boundaries, rank_images)
    mine = share_of_process(range(len(samples)))
    batches = load_batches(
        samples,
        predictor.processor,
        mine,
        batch_size=batch_size,
        workers=workers,
        timeout=timeout,
        on_unreadable=on_unreadable,
    )
    is_shown = PartialState().is_main_process
    with tqdm(total=len(mine), desc="evaluate", unit="image", leave=False, disable=not is_shown) as bar:
        for batch in batches:
            if is_cancelled():
                break
            scores.add(batch, predictor.forward(batch))
            bar.update(len(batch))
    states, cancelled = zip(*gather_object([(scores.state(), is_cancelled())]), strict=True)
    if any(cancelled):
        raise EvaluationCancelledError
    return scores.of_all(states)


class _Scores:
    """The metrics of this process's images."""

    def __init__(self, predictor: Predictor, tasks: Collection[str], boundaries: bool, rank_images: bool) -> None:
        num_labels, things = predictor.num_labels, predictor.thing_label_ids
        makers: Mapping[str, Callable[[], Any]] = {
            "panoptic": lambda: PanopticQuality(num_labels, predictor.stuff_label_ids),
            "instance": lambda: MeanAveragePrecision(things, boundaries, max(predictor.top_k, MAX_DETECTIONS)),
            "semantic": lambda: MeanIoU(num_labels, ignore_index=-1),
            "boundary": lambda: BoundaryIoU(num_labels, ignore_index=-1),
        }
        self.predictor = predictor
        self.makers = {task: makers[task] for task in TASKS if task in tasks}
        if boundaries and "semantic" in tasks:
            self.makers["boundary"] = makers["boundary"]
        self.metrics = {task: make() for task, make in self.makers.items()}
        self.overlaps = False
        self.most_objects = MostObjects()
        self.num_images = 0
        self.rank_images = rank_images
        self.images: list[JudgedImage] = []

    def add(self, batch: Batch, outputs: Any) -> None:
        """Judge a batch."""
        targets = [item.sample.target for item in batch]
        self.overlaps |= any(target.has_overlaps() for target in targets)
        self.most_objects = self.most_objects.joined((item.sample for item in batch), self.predictor.thing_label_ids)
        of_images: list[dict[str, float]] = [{} for _ in batch]
        for task in TASKS:
            if task in self.metrics and (task == "instance" or not self.overlaps):
                predictions = getattr(self.predictor, task)(batch, outputs)
                for metric in (task, "boundary") if task == "semantic" and "boundary" in self.metrics else (task,):
                    self._update(metric, predictions, targets, of_images)
        self.num_images += len(batch)
        if self.rank_images:
            for item, qualities in zip(batch, of_images, strict=True):
                order = (self.predictor.task, "panoptic", "semantic", "instance")
                quality = next((qualities[task] for task in order if task in qualities), math.nan)
                self.images.append(JudgedImage(quality, item.number, item.sample.file_name))

    def _update(
        self,
        name: str,
        predictions: Sequence[Any],
        targets: Sequence[SegmentationTarget],
        of_images: Sequence[dict[str, float]],
    ) -> None:
        if not self.rank_images or name == "boundary":
            self.metrics[name].update(predictions, targets)
            return
        for prediction, target, qualities in zip(predictions, targets, of_images, strict=True):
            alone = self.makers[name]()
            alone.update([prediction], [target])
            # COCO's scores take long, so they are only made for want of others.
            if name != "instance" or self.overlaps or len(self.metrics) == 1:
                qualities[name] = _quality(name, alone.compute())
            self.metrics[name].merge(alone)

    def state(self) -> Any:
        """Return what the other processes are told."""
        return self.metrics, self.overlaps, self.num_images, self.images, self.most_objects

    def of_all(self, states: Sequence[Any]) -> dict[str, Any]:
        """Return the scores of all processes together."""
        of_processes, overlaps, numbers, images, most_objects = zip(*states, strict=True)
        if "instance" in self.metrics and PartialState().is_main_process:
            max(most_objects).note(self.predictor)
        total = {task: make() for task, make in self.makers.items()}
        for metrics in of_processes:
            for task, metric in total.items():
                metric.merge(metrics[task])
        undefined = ("panoptic", "semantic", "boundary") if any(overlaps) else ()
        computed = {task: None if task in undefined else metric.compute() for task, metric in total.items()}
        of_boundaries = computed.pop("boundary", None)
        if of_boundaries is not None and computed["semantic"] is not None:
            computed["semantic"]["boundary"] = of_boundaries
        ranking = sorted(image for part in images for image in part if not math.isnan(image.quality))
        return {"images": sum(numbers), **computed} | ({"ranking": ranking} if self.rank_images else {})


def _quality(task: str, scores: Mapping[str, Any]) -> float:
    if task == "panoptic":
        return scores["all"]["pq"]
    return scores["miou" if task == "semantic" else "ap"]
