# SPDX-License-Identifier: Apache-2.0
"""A predictor and annotated images in; their scores, and pictures of what went worst, out.

Everything is scored at the images' original size. Each process takes its share, and all get the scores of the whole.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState
from accelerate.utils import gather_object

from unisegment.files import filled_folder, make_folder, require_own, write_text
from unisegment.inference.images import Batch, Report, Samples, noting, targets_of
from unisegment.inference.object_counts import MostObjects
from unisegment.inference.pictures import draw_images
from unisegment.inference.predictor import Predictor
from unisegment.inference.report import description, make_report
from unisegment.metrics import BoundaryIoU, MeanAveragePrecision, MeanIoU, PanopticQuality
from unisegment.metrics.average_precision import MAX_DETECTIONS
from unisegment.runs.processes import share_of_process
from unisegment.structures import TASKS, SegmentationTarget

METRICS = "metrics.json"
WORST = "worst"


class EvaluationCancelledError(Exception):
    """An evaluation was ended before all images were scored; there are no scores."""


class RankedImage(NamedTuple):
    """How good the prediction of one image is: PQ, mIoU or AP of it alone, NaN where there is nothing to score."""

    quality: float
    number: int
    file_name: str


def evaluate(
    predictor: Predictor,
    samples: Samples,
    *,
    tasks: Collection[str] = TASKS,
    boundaries: bool = False,
    worst: int = 0,
    output: Path | None = None,
    batch_size: int = 1,
    workers: int = 0,
    timeout: float = 0,
    is_cancelled: Callable[[], bool] = lambda: False,
    on_unreadable: Report | None = None,
) -> dict[str, Any]:
    """Score a predictor; all processes share the images, and all get the scores.

    Args:
        predictor: Makes the predictions.
        samples: Annotated images, whose labels are those of the predictor; see `unisegment.inference.labels`.
        tasks: What is scored, of panoptic, instance and semantic. Where segments of an image overlap, as in COCO's
            instances, only "instance" is defined, and the others are left out. So are those that the processor does not
            read, where it reads some of them.
        boundaries: Also score boundaries.
        worst: How many of the worst images are named and, into `worst/` of `output`, drawn.
        output: Folder for `metrics.json` and the pictures, which replace those of an earlier evaluation; None writes
            nothing.
        batch_size: Most images that go through the model together; no score depends on it.
        workers: Processes that load images; 0 loads in this process.
        timeout: Seconds that they may take for an image; 0 waits without end.
        is_cancelled: Is asked before each batch; True in one process ends the evaluation in all.
        on_unreadable: Is told what is wrong with images that cannot be read, which are then left out. None raises.

    Returns:
        What `make_report` does, with `task` (what the labels are made for), `checkpoint`, `settings`, `worst` (the file
        names, the worst first, and their quality) and `unreadable_images`.

    Raises:
        EvaluationCancelledError: When it was cancelled.
        ValueError: When there is no such task, or a file of `output` would be replaced that is of something else.
        WriteError: When something cannot be written; whether anything can be in `output` is tried first.
    """
    if isinstance(tasks, str) or not set(tasks) <= set(TASKS):
        raise ValueError(f"tasks must be a list of some of {', '.join(TASKS)}, got {tasks!r}.")
    tasks = [task for task in tasks if task in predictor.tasks] or tasks  # the processor says why there are none
    if output is not None:
        require_own(output, (METRICS, WORST), METRICS, "checkpoint")
        make_folder(output)
    scores = _Scores(predictor, tasks, boundaries, rank_images=worst > 0)
    problems = [*getattr(samples, "left_out", ())]
    for batch, outputs in predictor.stream(
        samples,
        share_of_process(range(len(samples))),
        batch_size=batch_size,
        workers=workers,
        timeout=timeout,
        on_unreadable=noting(problems, on_unreadable),
        is_cancelled=is_cancelled,
        description="evaluate",
    ):
        scores.add(batch, outputs)
    states, cancelled, unreadable = zip(*gather_object([(scores.state(), is_cancelled(), problems)]), strict=True)
    if any(cancelled):
        raise EvaluationCancelledError
    total = scores.of_all(states)
    ranking = total.pop("ranking")[:worst]
    report = make_report(total, predictor.id2label) | {
        **description(predictor),
        "worst": [{"file_name": image.file_name, "quality": image.quality} for image in ranking],
        "unreadable_images": sorted({problem for part in unreadable for problem in part}),
    }
    if output is not None and PartialState().is_main_process:
        write_text(output / METRICS, json.dumps(report, indent=2) + "\n")
        _draw(predictor, samples, ranking, tasks, output / WORST)
    return report


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
        self.images: list[RankedImage] = []

    def add(self, batch: Batch, outputs: Any) -> None:
        """Score a batch."""
        targets = targets_of(batch)
        self.overlaps |= any(target.has_overlaps() for target in targets)
        self.most_objects = self.most_objects.joined(batch, self.predictor.thing_label_ids)
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
                self.images.append(RankedImage(quality, item.number, item.image.file_name))

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
        """Return the scores of all processes together, and `ranking`, the worst image first."""
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
        return {"images": sum(numbers), **computed, "ranking": ranking}


def _quality(task: str, scores: Mapping[str, Any]) -> float:
    if task == "panoptic":
        return scores["all"]["pq"]
    return scores["miou" if task == "semantic" else "ap"]


def _draw(
    predictor: Predictor, samples: Samples, ranking: Sequence[RankedImage], tasks: Collection[str], folder: Path
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
