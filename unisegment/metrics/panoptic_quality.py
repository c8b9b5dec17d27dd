# SPDX-License-Identifier: Apache-2.0
"""Panoptic quality: predicted and true segments of each image in, PQ, SQ and RQ of the data set out.

`panoptic_counts` evaluates one image, `PanopticQuality` adds up images in memory, and `panoptic_quality_from_files`
evaluates a data set in COCO's panoptic format. Axes: n segment, k class, h w pixel grid of the original image, s pair
of a true and a predicted segment that meet.

Source: Panoptic Segmentation (arXiv:1801.00868), section 4; what the paper leaves open is as in panopticapi
(evaluation.py of github.com/cocodataset/panopticapi, BSD-2-Clause).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int32
from torch import Tensor

from unisegment.metrics.panoptic_files import Annotation, AnnotationFile
from unisegment.ops.image_opening import open_image
from unisegment.ops.masks import rgb_to_ids, segment_index_map
from unisegment.structures import PanopticPrediction, SegmentationTarget

VOID = 0
"""Id of the pixels that belong to no segment."""


class Segments(NamedTuple):
    """The segments of one id map.

    Args:
        ids: Number of each segment in the map, all different.
        labels: Class of each, 0 to k - 1.
        is_crowd: Groups of objects that nobody told apart; only looked at in targets.
        areas: Pixels of each according to the annotation, NaN to count them in the map; only looked at in targets.
    """

    ids: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    is_crowd: Bool[np.ndarray, " n"]
    areas: Float64[np.ndarray, " n"]


def panoptic_counts(
    prediction_map: Int32[np.ndarray, "h w"],
    predicted: Segments,
    target_map: Int32[np.ndarray, "h w"],
    true: Segments,
    num_labels: int,
) -> Float64[np.ndarray, "4 k"]:
    """Match the segments of one image.

    Two segments of one label match where more than half of their union is common to both; true void is no part of the
    union. A true segment without a match is a false negative unless it is a crowd. A predicted one is a false
    positive unless more than half of it is void or in the crowd of its label (in the last one, if there are several).

    Args:
        prediction_map: Id of the segment that each pixel belongs to, or `VOID`.
        predicted: The segments of `prediction_map`, no more and no less.
        target_map: The same for the ground truth. Ids that are not in `true` are neither void nor a segment.
        true: The true segments. One that has no pixel cannot be found, and counts as a false negative.
        num_labels: Number k of classes.

    Returns:
        For each label the number of true positives, false positives and false negatives, and the sum of the IoU of
        the true positives.

    Raises:
        ValueError: When the maps differ in size, or when `prediction_map` and `predicted` differ in ids.
    """
    target_ids, prediction_ids, shared = _shared_pixels(target_map, prediction_map)
    _check_same_ids(prediction_ids, predicted.ids)
    # The place behind the last segment stands for "none of them".
    true_idx = _places(target_ids, true.ids)
    predicted_idx = _places(prediction_ids, predicted.ids)
    same_label = np.append(true.labels, -1)[true_idx] == np.append(predicted.labels, -2)[predicted_idx]

    num_predicted = len(predicted.ids)
    predicted_areas = _sum_at(predicted_idx, shared, num_predicted)
    void_areas = _sum_at(predicted_idx, shared * (target_ids == VOID), num_predicted)
    in_crowd = same_label & np.append(_is_last_crowd(true), False)[true_idx]
    crowd_areas = _sum_at(predicted_idx, shared * in_crowd, num_predicted)
    counted_areas = _sum_at(true_idx, shared, len(true.ids))
    true_areas = np.where(np.isnan(true.areas), counted_areas, true.areas)

    can_match = same_label & ~np.append(true.is_crowd, True)[true_idx]
    true_idx, predicted_idx, shared = true_idx[can_match], predicted_idx[can_match], shared[can_match]
    iou = shared / (true_areas[true_idx] + predicted_areas[predicted_idx] - shared - void_areas[predicted_idx])
    is_match = iou > 0.5

    is_missed = ~true.is_crowd
    is_missed[true_idx[is_match]] = False
    is_false = (void_areas + crowd_areas) / predicted_areas <= 0.5
    is_false[predicted_idx[is_match]] = False
    match_labels = true.labels[true_idx[is_match]]
    return np.stack(
        [
            np.bincount(match_labels, minlength=num_labels),
            np.bincount(predicted.labels[is_false], minlength=num_labels),
            np.bincount(true.labels[is_missed], minlength=num_labels),
            _sum_at(match_labels, iou[is_match], num_labels),
        ]
    )


def panoptic_quality_from_files(
    gt_json: str | Path, gt_dir: str | Path, pred_json: str | Path, pred_dir: str | Path
) -> dict[str, Any]:
    """Evaluate predictions in COCO's panoptic format: a JSON file and a folder of PNG files with ids as colours.

    Args:
        gt_json: Annotations and categories of the ground truth. Its segments' `area` is used where it is given.
        gt_dir: Folder of its PNG files.
        pred_json: Annotations of the predictions, in any order; those of other images are left out.
        pred_dir: Folder of their PNG files.

    Returns:
        `all`, `things` and `stuff`: dicts of the means `pq`, `sq` and `rq`, in [0, 1], over the `n` categories that
        have segments to evaluate, true or predicted; NaN if n is 0. `per_class`: a dict from category id to its `pq`,
        `sq` and `rq`, 0 where there is nothing to evaluate.

    Raises:
        FileNotFoundError: When a file is missing.
        ValueError: When a file is not in that form or cannot be read, when an image has no prediction, when a category
            is unknown, and as `panoptic_counts`; the message names the file.
    """
    truth, prediction = AnnotationFile(Path(gt_json), Path(gt_dir)), AnnotationFile(Path(pred_json), Path(pred_dir))
    truth.read(with_categories=True)
    prediction.read()
    label_of_category = {category_id: label for label, category_id in enumerate(truth.is_thing)}
    prediction_of_image = {annotation.image_id: annotation for annotation in prediction.annotations}
    missing = [item.image_id for item in truth.annotations if item.image_id not in prediction_of_image]
    if missing:
        raise ValueError(f"{pred_json} lacks {len(missing)} images of {gt_json}, such as image_id {missing[:3]}.")

    def count(annotation: Annotation) -> Float64[np.ndarray, "4 k"]:
        predicted_annotation = prediction_of_image[annotation.image_id]
        target_map, true = _read(annotation, label_of_category)
        prediction_map, predicted = _read(predicted_annotation, label_of_category)
        with _naming(predicted_annotation.file):
            return panoptic_counts(prediction_map, predicted, target_map, true, len(label_of_category))

    with ThreadPoolExecutor() as pool:
        counts = sum(pool.map(count, truth.annotations), start=np.zeros((4, len(label_of_category))))
    is_stuff = np.array([not is_thing for is_thing in truth.is_thing.values()], dtype=np.bool_)
    return _scores(counts, list(label_of_category), is_stuff)


class PanopticQuality:
    """Panoptic quality of predictions in memory.

    Args:
        num_labels: Number of classes.
        stuff_label_ids: The labels that are stuff; the others are things.

    Attributes:
        state: For each label the true positives, false positives, false negatives and the sum of IoU so far; the
            states of two halves of a data set add up.

    Raises:
        ValueError: When a stuff label is not below `num_labels`.
    """

    def __init__(self, num_labels: int, stuff_label_ids: Iterable[int]) -> None:
        self.num_labels = num_labels
        self.stuff_label_ids = frozenset(stuff_label_ids)
        unknown = self.stuff_label_ids.difference(range(num_labels))
        if unknown:
            raise ValueError(f"stuff_label_ids must be from 0 to {num_labels - 1}, got {sorted(unknown)}.")
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.state: Float64[Tensor, "4 k"] = torch.zeros(4, self.num_labels, dtype=torch.float64)

    def merge(self, other: "PanopticQuality") -> None:
        """Add what another metric with the same arguments has seen."""
        if (other.num_labels, other.stuff_label_ids) != (self.num_labels, self.stuff_label_ids):
            raise ValueError("Only metrics with the same num_labels and stuff_label_ids can be merged.")
        self.state = self.state + other.state

    def update(self, predictions: Sequence[PanopticPrediction], targets: Sequence[SegmentationTarget]) -> None:
        """Add images.

        Args:
            predictions: One an image, at the size of its target.
            targets: One an image, as an id map or as masks that do not overlap.

        Raises:
            ValueError: See `panoptic_counts`; also when a label is unknown, when the lists differ in length, or when
                masks of a target overlap.
        """
        counts = [self._count(*pair) for pair in zip(predictions, targets, strict=True)]
        self.state = self.state + torch.from_numpy(sum(counts, start=np.zeros((4, self.num_labels))))

    def compute(self) -> dict[str, Any]:
        """Return the scores as `panoptic_quality_from_files` does, by label instead of category id."""
        labels = range(self.num_labels)
        is_stuff = np.array([label in self.stuff_label_ids for label in labels], dtype=np.bool_)
        return _scores(self.state.cpu().numpy(), labels, is_stuff)

    def _count(self, prediction: PanopticPrediction, target: SegmentationTarget) -> Float64[np.ndarray, "4 k"]:
        labels = target.labels.cpu().numpy()
        if not np.isin(labels, np.arange(self.num_labels)).all():
            raise ValueError(f"Labels of a target must be from 0 to {self.num_labels - 1}, got {labels.tolist()}.")
        true = Segments(
            ids=np.arange(1, len(labels) + 1),
            labels=labels,
            is_crowd=target.is_crowd.cpu().numpy(),
            areas=np.full(len(labels), np.nan),
        )
        # Void, -1, becomes 0.
        target_map = (segment_index_map(target) + 1).to("cpu", torch.int32).numpy()
        prediction_map = prediction.segmentation.to("cpu", torch.int32).numpy()
        label_of = {label: label for label in range(self.num_labels)}
        predicted = _segments(prediction.segments_info, "label_id", label_of)
        return panoptic_counts(prediction_map, predicted, target_map, true, self.num_labels)


def _scores(
    counts: Float64[np.ndarray, "4 k"], label_ids: Sequence[int], is_stuff: Bool[np.ndarray, " k"]
) -> dict[str, Any]:
    true_positives, false_positives, false_negatives, iou_sums = counts
    occurrences = true_positives + (false_positives + false_negatives) / 2
    # Without any occurrence the numerators are 0 as well, and the quotients become 0.
    rq = true_positives / np.where(occurrences > 0, occurrences, 1)
    pq = iou_sums / np.where(occurrences > 0, occurrences, 1)
    sq = iou_sums / np.where(true_positives > 0, true_positives, 1)
    by_label = np.stack([pq, sq, rq])

    def mean(is_in_group: Bool[np.ndarray, " k"]) -> dict[str, Any]:
        chosen = by_label[:, is_in_group & (occurrences > 0)]
        values = chosen.mean(axis=1).tolist() if chosen.shape[1] else [math.nan] * 3
        return dict(zip(("pq", "sq", "rq"), values, strict=True)) | {"n": chosen.shape[1]}

    return {
        "all": mean(np.ones_like(is_stuff)),
        "things": mean(~is_stuff),
        "stuff": mean(is_stuff),
        "per_class": {
            label_id: dict(zip(("pq", "sq", "rq"), values, strict=True))
            for label_id, values in zip(label_ids, by_label.T.tolist(), strict=True)
        },
    }


def _shared_pixels(
    target_map: Int32[np.ndarray, "h w"], prediction_map: Int32[np.ndarray, "h w"]
) -> tuple[Int32[np.ndarray, " s"], Int32[np.ndarray, " s"], Float64[np.ndarray, " s"]]:
    """Return the pairs of ids that meet, and the number of pixels where they do."""
    if target_map.shape != prediction_map.shape:
        raise ValueError(
            f"The prediction has size {prediction_map.shape} but its target {target_map.shape} (height, width); resize "
            "the prediction to the size of the target (target_sizes)."
        )
    pairs = target_map.astype(np.int64).reshape(-1)
    pairs <<= 32
    pairs |= prediction_map.view(np.uint32).reshape(-1)
    # Segments are wide: there are far fewer runs of equal pairs to sort than pixels.
    starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]]))
    runs = pairs[starts]
    # Faster than the inverse that np.unique would give.
    unique = np.unique(runs)
    shared = np.bincount(np.searchsorted(unique, runs), np.diff(starts, append=pairs.size))
    return (unique >> 32).astype(np.int32), unique.astype(np.int32), shared


def _places(ids: Int[np.ndarray, " s"], segment_ids: Int[np.ndarray, " n"]) -> Int[np.ndarray, " s"]:
    """Return for each id its place among the segments, n if it is not there."""
    place_of_id = {segment_id: place for place, segment_id in enumerate(segment_ids.tolist())}
    return np.array([place_of_id.get(segment_id, len(place_of_id)) for segment_id in ids.tolist()], dtype=np.int64)


def _sum_at(places: Int[np.ndarray, " s"], values: Float64[np.ndarray, " s"], num: int) -> Float64[np.ndarray, " n"]:
    # Of nothing, bincount returns integers.
    return np.bincount(places, values, minlength=num + 1)[:num].astype(np.float64)


def _is_last_crowd(true: Segments) -> Bool[np.ndarray, " n"]:
    last = {int(true.labels[idx]): idx for idx in np.flatnonzero(true.is_crowd)}
    return np.isin(np.arange(len(true.ids)), list(last.values()))


def _check_same_ids(map_ids: Int[np.ndarray, " s"], listed_ids: Int[np.ndarray, " n"]) -> None:
    in_map, listed = set(map_ids.tolist()), set(listed_ids.tolist())
    for place, ids in (("map", in_map - listed - {VOID}), ("segments_info", listed - in_map)):
        if ids:
            raise ValueError(
                f"Segment ids {sorted(ids)[:5]} of the prediction are only in its {place}; its map and segments_info "
                f"must have the same ids, and pixels of no segment the id {VOID}."
            )


def _segments(infos: Sequence[Mapping[str, Any]], label_key: str, label_of: Mapping[int, int]) -> Segments:
    # A fused segment may be listed more than once, but has one label.
    info_of_id = {info["id"]: info for info in infos}
    for info in infos:
        if info[label_key] not in label_of:
            raise ValueError(f"Segment {info['id']} has the unknown {label_key} {info[label_key]}.")
        if info[label_key] != info_of_id[info["id"]][label_key]:
            raise ValueError(f"Segment {info['id']} is listed with more than one {label_key}; segment ids must differ.")
    return Segments(
        ids=np.array(list(info_of_id), dtype=np.int64),
        labels=np.array([label_of[info[label_key]] for info in info_of_id.values()], dtype=np.int64),
        is_crowd=np.array([info.get("iscrowd", 0) == 1 for info in info_of_id.values()], dtype=np.bool_),
        areas=np.array([info.get("area", np.nan) for info in info_of_id.values()], dtype=np.float64),
    )


def _read(annotation: Annotation, label_of_category: Mapping[int, int]) -> tuple[Int32[np.ndarray, "h w"], Segments]:
    if not annotation.file.is_file():
        raise FileNotFoundError(f"{annotation.file}: there is no such file, but the annotations name it.")
    image = open_image(annotation.file)
    with _naming(annotation.file):
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"The image has mode {image.mode}, but segment ids are colours (RGB).")
        ids = rgb_to_ids(np.asarray(image)[..., :3])
        return ids, _segments(annotation.infos, "category_id", label_of_category)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of the file in front of an error message."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
