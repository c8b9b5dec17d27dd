# SPDX-License-Identifier: Apache-2.0
"""COCO's mask AP: scored masks and true masks of each image in, average precision and recall of the data set out.

pycocotools does the matching and the averaging; here everything is brought into its form. Masks are kept as run
lengths. Axes: n segment, h w pixel grid of the original image.

Source: COCO's rules as in pycocotools; boundary AP as in Boundary IoU (arXiv:2103.16562) and its code
(github.com/bowenc0221/boundary-iou-api).
"""

import contextlib
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from unisegment.metrics.boundary import boundaries, boundary_width
from unisegment.ops.json_values import (
    INT32,
    read_each,
    read_flag,
    read_id,
    read_number,
    read_whole_number,
    shown,
    value_of,
)
from unisegment.ops.rle import encode_rle, run_lengths
from unisegment.structures import InstancePrediction, SegmentationTarget
from unisegment.types import Size

_STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10")
"""The first of COCOeval's scores, in its order."""

MAX_DETECTIONS = 100
"""Detections of an image and category that COCO evaluates, the best ones."""


def mask_average_precision(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    category_ids: Collection[int],
    by_boundary: bool = False,
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, Any]:
    """Evaluate detections by COCO's rules.

    Args:
        images: COCO dicts: `id`, `height`, `width`.
        annotations: COCO dicts: `image_id`, `category_id`, `segmentation` as compressed run lengths, `area` in pixels,
            `iscrowd`.
        detections: COCO dicts: `image_id`, `category_id`, `segmentation` as compressed run lengths, `score`.
        category_ids: Categories to evaluate.
        by_boundary: Let two masks overlap no more than their boundaries do, which annotations and detections then have
            as run lengths in `boundary`. Crowds count by their masks alone.
        max_detections: Detections of an image and category that are scored, the best ones. More than COCO's 100 are for
            data with more objects in an image.

    Returns:
        `ap`, the mean over the categories that have annotations and over the IoU thresholds 0.5, 0.55 to 0.95; `ap50`
        and `ap75` at one threshold; `ap_small`, `ap_medium`, `ap_large` for objects below 32**2, between, and above
        96**2 pixels; recalls `ar_1` and `ar_10` of so many detections, and `ar_{max_detections}`; `per_class`, a dict
        from category id to its `ap`. All in [0, 1], or NaN where there is no annotation.

    Raises:
        ValueError: When `max_detections` is below 100, or when a dict lacks something or has it of another kind, such
            as run lengths that do not add up to the size of their image; says which.
    """
    _check_max_detections(max_detections)
    sizes: dict[int | str, Size] = {}
    read_each(list(images), "images", lambda image: sizes.update({read_id(image): _size_of(image)}))
    shapes = ["segmentation", "boundary"] if by_boundary else ["segmentation"]
    read_each(list(annotations), "annotations", lambda item: _check_annotation(item, sizes, shapes))
    read_each(list(detections), "detections", lambda item: _check_detection(item, sizes, shapes))
    return _average_precision(images, annotations, detections, category_ids, by_boundary, max_detections)


def _average_precision(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    category_ids: Collection[int],
    by_boundary: bool,
    max_detections: int,
) -> dict[str, Any]:
    """Do it with what is known to be sound: pycocotools reads and writes outside of its memory otherwise."""
    detections = [{**detection, "area": _area(detection["segmentation"])} for detection in detections]
    evaluation_type = _BoundaryEvaluation if by_boundary else COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluation_type(
            _coco(images, annotations, category_ids), _coco(images, detections, category_ids), iouType="segm"
        )
        evaluation.params.maxDets = [1, 10, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # threshold, recall, category, area range (first: all), number of detections (last: most)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    stats = dict(zip((*_STATS, f"ar_{max_detections}"), evaluation.stats, strict=False))
    if max_detections != MAX_DETECTIONS:
        known = precision[precision > -1]
        stats["ap"] = known.mean() if known.size else -1.0  # COCOeval has it for 100 alone
    return {name: _nan_if_none(score) for name, score in stats.items()} | {
        "per_class": {
            int(category_id): _nan_if_none(precision[:, :, place].mean())
            for place, category_id in enumerate(evaluation.params.catIds)
        }
    }


class _BoundaryEvaluation(COCOeval):
    """COCO's rules with the smaller one of the overlaps of masks and of boundaries."""

    def computeIoU(self, imgId: int, catId: int) -> Float64[np.ndarray, "d g"] | list[Any]:  # noqa: N802, N803
        """Return the overlap of each detection, the best ones first, with each annotation of a category."""
        overlaps = super().computeIoU(imgId, catId)
        annotations, detections = self._gts[imgId, catId], self._dts[imgId, catId]
        if not annotations or not detections:
            return overlaps
        order = np.argsort([-detection["score"] for detection in detections], kind="stable")[: self.params.maxDets[-1]]
        is_crowd = [int(annotation["iscrowd"]) for annotation in annotations]
        of_boundaries = coco_mask.iou(
            [detections[place]["boundary"] for place in order], [item["boundary"] for item in annotations], is_crowd
        )
        return np.where(is_crowd, overlaps, np.minimum(overlaps, of_boundaries))


class MeanAveragePrecision:
    """COCO's mask AP of predictions in memory.

    Args:
        thing_label_ids: The labels that are scored, predictions and targets of other labels are left out; None means
            every label that occurs.
        by_boundary: Also evaluate boundaries.
        max_detections: As in `mask_average_precision`.

    Raises:
        ValueError: When `max_detections` is below 100.

    Attributes:
        state: One dict an image: its `size`, and COCO dicts of its `annotations` and `detections`; the states of two
            halves of a data set are joined.
    """

    def __init__(
        self,
        thing_label_ids: Iterable[int] | None = None,
        by_boundary: bool = False,
        max_detections: int = MAX_DETECTIONS,
    ) -> None:
        _check_max_detections(max_detections)
        self.thing_label_ids = None if thing_label_ids is None else frozenset(thing_label_ids)
        self.by_boundary = by_boundary
        self.max_detections = max_detections
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.state: list[dict[str, Any]] = []

    def merge(self, other: "MeanAveragePrecision") -> None:
        """Add what another metric with the same arguments has seen."""
        if other._arguments() != self._arguments():
            raise ValueError(
                "Only metrics with the same thing_label_ids, by_boundary and max_detections can be merged."
            )
        self.state += other.state

    def update(self, predictions: Sequence[InstancePrediction], targets: Sequence[SegmentationTarget]) -> None:
        """Add images.

        Args:
            predictions: One an image, at the size of its target.
            targets: One an image; objects may overlap. An object is as large as its mask.

        Raises:
            ValueError: When the lists differ in length, a prediction and its target in size, or the number of masks
                of a prediction and of its segments.
        """
        self.state += [self._record(*pair) for pair in zip(predictions, targets, strict=True)]

    def compute(self) -> dict[str, Any]:
        """Return the scores as `mask_average_precision` does, by label instead of category id.

        With `by_boundary` also `boundary`: the same scores by boundaries.
        """
        images = [
            {"id": number, "height": record["size"][0], "width": record["size"][1]}
            for number, record in enumerate(self.state)
        ]
        annotations, detections = (
            [item | {"image_id": number} for number, record in enumerate(self.state) for item in record[kind]]
            for kind in ("annotations", "detections")
        )
        labels = self.thing_label_ids
        if labels is None:
            labels = frozenset(item["category_id"] for item in annotations + detections)
        evaluated = (images, annotations, detections, labels)
        scores = _average_precision(*evaluated, by_boundary=False, max_detections=self.max_detections)
        if self.by_boundary:
            scores["boundary"] = _average_precision(*evaluated, by_boundary=True, max_detections=self.max_detections)
        return scores

    def _arguments(self) -> tuple[frozenset[int] | None, bool, int]:
        return self.thing_label_ids, self.by_boundary, self.max_detections

    def _record(self, prediction: InstancePrediction, target: SegmentationTarget) -> dict[str, Any]:
        _check_sizes(prediction, target)
        detected = [place for place, info in enumerate(prediction.segments_info) if self._is_scored(info["label_id"])]
        infos = [prediction.segments_info[place] for place in detected]
        detections = [
            shape | {"category_id": int(info["label_id"]), "score": float(info["score"])}
            for shape, info in zip(self._shapes(prediction.masks[detected]), infos, strict=True)
        ]
        is_scored = [self._is_scored(label) for label in target.labels.tolist()]
        objects = target.select(torch.tensor(is_scored, dtype=torch.bool, device=target.labels.device))
        shapes = self._shapes(objects.mask(index) for index in range(len(objects)))
        annotations = [
            shape | {"category_id": label, "iscrowd": int(is_crowd), "area": _area(shape["segmentation"])}
            for shape, label, is_crowd in zip(shapes, objects.labels.tolist(), objects.is_crowd.tolist(), strict=True)
        ]
        return {"size": target.size, "annotations": annotations, "detections": detections}

    def _shapes(self, masks: Iterable[Bool[Tensor, "h w"]]) -> list[dict[str, Any]]:
        """Return the run lengths of each mask; one mask exists at a time."""
        shapes = []
        for mask in masks:
            shape = {"segmentation": encode_rle(mask[None])[0]}
            if self.by_boundary:
                width = boundary_width((mask.shape[0], mask.shape[1]))
                shape["boundary"] = encode_rle(boundaries(mask[None], width))[0]
            shapes.append(shape)
        return shapes

    def _is_scored(self, label: int) -> bool:
        return self.thing_label_ids is None or label in self.thing_label_ids


def _size_of(image: Any) -> Size:
    return read_whole_number(image, "height", 1, INT32[1]), read_whole_number(image, "width", 1, INT32[1])


def _check_detection(item: Any, sizes: Mapping[int | str, Size], shapes: Sequence[str]) -> None:
    read_number(item, "score")
    _check_shapes(item, sizes, shapes)


def _check_annotation(item: Any, sizes: Mapping[int | str, Size], shapes: Sequence[str]) -> None:
    read_number(item, "area")
    read_flag(item, "iscrowd", default=None)
    _check_shapes(item, sizes, shapes)


def _check_shapes(item: Any, sizes: Mapping[int | str, Size], shapes: Sequence[str]) -> None:
    read_whole_number(item, "category_id")
    size = sizes.get(read_id(item, "image_id"))
    if size is None:
        raise ValueError(f"there is no image {shown(item['image_id'])}")
    for key in shapes:
        rle = value_of(item, key)
        found, counts = value_of(rle, "size"), value_of(rle, "counts")
        if not isinstance(found, list | tuple) or tuple(found) != size or not isinstance(counts, str | bytes):
            raise ValueError(f"{key} must be compressed run lengths {{size, counts}} of {size}, got {shown(rle)}")
        run_lengths(counts, size)


def _check_max_detections(max_detections: int) -> None:
    """Raise a ValueError for fewer detections than COCO evaluates."""
    if max_detections < MAX_DETECTIONS:
        raise ValueError(f"max_detections must be at least {MAX_DETECTIONS}, as of COCO, got {max_detections}.")


def _coco(
    images: Sequence[Mapping[str, Any]], annotations: Iterable[Mapping[str, Any]], category_ids: Collection[int]
) -> COCO:
    dataset = COCO()
    dataset.dataset = {
        "images": list(images),
        # Numbered from 1, as 0 means "no match" inside COCOeval; copied, as it writes into them.
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": category_id} for category_id in category_ids],
    }
    dataset.createIndex()
    return dataset


def _area(rle: Mapping[str, Any]) -> float:
    # One at a time: beside numpy 2, pycocotools 2.0 cannot count the areas of more than 255 masks at once.
    return float(coco_mask.area(rle))


def _check_sizes(prediction: InstancePrediction, target: SegmentationTarget) -> None:
    num_masks, *size = prediction.masks.shape
    if num_masks != len(prediction.segments_info):
        raise ValueError(
            f"An InstancePrediction has {num_masks} masks but {len(prediction.segments_info)} entries in "
            "segments_info; it must have one for each mask."
        )
    if tuple(size) != target.size:
        raise ValueError(
            f"The prediction has size {tuple(size)} but its target {target.size} (height, width); resize the "
            "prediction to the size of the target (target_sizes)."
        )


def _nan_if_none(score: float) -> float:
    """COCOeval says -1 where there is nothing to evaluate."""
    return math.nan if score < 0 else float(score)
