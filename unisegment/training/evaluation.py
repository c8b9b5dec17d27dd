# SPDX-License-Identifier: Apache-2.0
"""A model and annotated images in, scores and pictures of its predictions out.

One forward pass of each image gives the semantic, the instance and the panoptic result, at the image's original size.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from unisegment.metrics import MeanAveragePrecision, MeanIoU, PanopticQuality
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.models.unisegment.outputs import UniSegmentOutput
from unisegment.postprocessing import instance_predictions
from unisegment.structures import InstancePrediction, Sample
from unisegment.training.batches import Samples, leave_process_group
from unisegment.types import Size
from unisegment.visualization import draw_sheet


class EvaluationCancelledError(Exception):
    """An evaluation was ended before all images were judged; there are no scores."""


class _Prepared(NamedTuple):
    """One image, ready for the model."""

    place: int
    sample: Sample
    pixel_values: Float[Tensor, "1 3 h w"]
    pixel_mask: Int[Tensor, "1 h w"]


class _Unreadable(NamedTuple):
    """What is wrong with an image."""

    problem: str


@dataclass(frozen=True)
class _PreparedSamples(Dataset[_Prepared | _Unreadable]):
    samples: Samples
    processor: UniSegmentImageProcessor
    raises: bool

    def __getitem__(self, index: int) -> _Prepared | _Unreadable:
        try:
            sample = self.samples[index]
        except (ValueError, OSError) as error:  # what readers raise, see `unisegment.data`
            if self.raises:
                raise
            return _Unreadable(str(error))
        inputs = self.processor(images=[sample.image], return_tensors="pt")
        return _Prepared(index, sample, inputs["pixel_values"], inputs["pixel_mask"])


def evaluate(
    model: UniSegmentForUniversalSegmentation,
    processor: UniSegmentImageProcessor,
    samples: Samples,
    *,
    panoptic_threshold: float = 0.8,
    batch_size: int = 1,
    workers: int = 0,
    timeout: float = 0,
    is_cancelled: Callable[[], bool] = lambda: False,
    on_unreadable: Callable[[list[str]], None] | None = None,
) -> dict[str, Any]:
    """Judge a model in float32; all processes share the images, and all get the scores.

    Args:
        model: The bare model, not wrapped for training.
        processor: Prepares images and reads the model's output; it knows which labels are stuff.
        samples: Annotated images.
        panoptic_threshold: Smallest score of a panoptic segment.
        batch_size: Most images that go through the model together. Only neighbours of equal padded size do, so that
            no score depends on it.
        workers: Processes that load images; 0 loads in this process.
        timeout: Seconds that they may take for an image; 0 waits without end.
        is_cancelled: Is asked before each batch; True in one process ends the evaluation in all.
        on_unreadable: Is told what is wrong with images that cannot be read, which are then left out. None raises.

    Returns:
        `pq`, `sq`, `rq`, `pq_things`, `pq_stuff`, `mask_ap` (of the things) and `miou`, in [0, 1] or None where there
        is nothing to judge, and the number of `images` judged. Where segments of an image overlap, as in COCO's
        instances, only `mask_ap` is defined.

    Raises:
        EvaluationCancelledError: When it was cancelled.
    """
    things = _thing_label_ids(model, processor)
    num_labels = model.config.num_labels
    panoptic = PanopticQuality(num_labels, processor.stuff_label_ids or ())
    instance = MeanAveragePrecision(things)
    semantic = MeanIoU(num_labels, ignore_index=-1)
    state = PartialState()
    mine = np.array_split(np.arange(len(samples)), state.num_processes)[state.process_index]
    loader = DataLoader(
        _PreparedSamples(samples, processor, raises=on_unreadable is None),
        sampler=mine.tolist(),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        timeout=timeout if workers else 0,
        worker_init_fn=leave_process_group,
    )
    overlaps = False
    num_judged = 0
    with tqdm(total=len(mine), desc="evaluate", unit="image", leave=False, disable=not state.is_main_process) as bar:
        for batch in _equal_sizes(_readable(loader, on_unreadable), batch_size):
            if is_cancelled():
                break
            outputs = _forward(model, batch)
            sizes = [item.sample.target.size for item in batch]
            targets = [item.sample.target for item in batch]
            instance.update(_things(outputs, things, sizes, threshold=0.0), targets)
            overlaps |= any(target.has_overlaps() for target in targets)
            if not overlaps:
                found = processor.post_process_panoptic_segmentation(
                    outputs, threshold=panoptic_threshold, target_sizes=sizes
                )
                panoptic.update(found, targets)
                semantic.update(processor.post_process_semantic_segmentation(outputs, target_sizes=sizes), targets)
            num_judged += len(batch)
            bar.update(len(batch))
    metrics, overlapping, numbers, cancelled = zip(
        *gather_object([((panoptic, instance, semantic), overlaps, num_judged, is_cancelled())]), strict=True
    )
    if any(cancelled):
        raise EvaluationCancelledError
    scores = _scores(*_merged(metrics))
    if any(overlapping):
        scores |= dict.fromkeys(("pq", "sq", "rq", "pq_things", "pq_stuff", "miou"))
    return scores | {"images": sum(numbers)}


def draw_predictions(
    model: UniSegmentForUniversalSegmentation,
    processor: UniSegmentImageProcessor,
    samples: Samples,
    *,
    num_pictures: int,
    panoptic_threshold: float = 0.8,
    on_unreadable: Callable[[list[str]], None] | None = None,
) -> dict[str, Image.Image]:
    """Draw what a model sees in some of the images, and what is there.

    The images are spread evenly over all of them.

    Args:
        model: As in `evaluate`.
        processor: As in `evaluate`.
        samples: As in `evaluate`.
        num_pictures: How many are drawn.
        panoptic_threshold: As in `evaluate`.
        on_unreadable: As in `evaluate`.

    Returns:
        Pictures by the names of their files.
    """
    pictures = {}
    prepared = _PreparedSamples(samples, processor, raises=on_unreadable is None)
    things = _thing_label_ids(model, processor)
    places = np.linspace(0, len(samples) - 1, min(num_pictures, len(samples))).round().astype(int).tolist()
    for item in _readable((prepared[index] for index in places), on_unreadable):
        outputs = _forward(model, [item])
        sizes = [item.sample.target.size]
        name = f"{item.place:05d}_{Path(item.sample.file_name).stem}.png"
        pictures[name] = draw_sheet(
            item.sample.image,
            {
                "semantic": processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)[0],
                "instance": _things(outputs, things, sizes, threshold=0.5)[0],
                "panoptic": processor.post_process_panoptic_segmentation(
                    outputs, threshold=panoptic_threshold, target_sizes=sizes
                )[0],
                "annotation": item.sample.target,
            },
            model.config.id2label,
        )
    return pictures


def _forward(model: UniSegmentForUniversalSegmentation, batch: Sequence[_Prepared]) -> UniSegmentOutput:
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        outputs = model(
            pixel_values=torch.cat([item.pixel_values for item in batch]).to(model.device),
            pixel_mask=torch.cat([item.pixel_mask for item in batch]).to(model.device),
        )
    model.train(was_training)
    return outputs


def _thing_label_ids(model: UniSegmentForUniversalSegmentation, processor: UniSegmentImageProcessor) -> frozenset[int]:
    return frozenset(range(model.config.num_labels)) - frozenset(processor.stuff_label_ids or ())


def _things(outputs: Any, things: frozenset[int], sizes: list[Size], threshold: float) -> list[InstancePrediction]:
    """Return the instances that are no stuff, among the 100 best of all labels as in the original."""
    return instance_predictions(
        outputs.class_queries_logits,
        outputs.masks_queries_logits,
        outputs.image_sizes,
        sizes,
        threshold=threshold,
        label_ids=things,
    )


def _readable(
    items: Iterable[_Prepared | _Unreadable], on_unreadable: Callable[[list[str]], None] | None
) -> Iterator[_Prepared]:
    """Give the images that could be read, and tell of the others."""
    for item in items:
        if isinstance(item, _Prepared):
            yield item
        elif on_unreadable is not None:
            on_unreadable([item.problem])


def _equal_sizes(items: Iterable[_Prepared], most: int) -> Iterator[list[_Prepared]]:
    """Group neighbours of equal size, at most so many."""
    group: list[_Prepared] = []
    for item in items:
        if group and (len(group) == most or item.pixel_values.shape != group[0].pixel_values.shape):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


_Metrics = tuple[PanopticQuality, MeanAveragePrecision, MeanIoU]


def _merged(of_processes: Sequence[Any]) -> _Metrics:
    """Return the metrics of all processes together."""
    total, *others = of_processes
    for other in others:
        for own, foreign in zip(total, other, strict=True):
            own.merge(foreign)
    return total


def _scores(panoptic: PanopticQuality, instance: MeanAveragePrecision, semantic: MeanIoU) -> dict[str, Any]:
    quality = panoptic.compute()
    scores = {
        "pq": quality["all"]["pq"],
        "sq": quality["all"]["sq"],
        "rq": quality["all"]["rq"],
        "pq_things": quality["things"]["pq"],
        "pq_stuff": quality["stuff"]["pq"],
        "mask_ap": instance.compute()["ap"],
        "miou": semantic.compute()["miou"],
    }
    # JSON has no NaN.
    return {name: None if math.isnan(score) else score for name, score in scores.items()}


def _unchanged(item: Any) -> Any:
    return item
