# SPDX-License-Identifier: Apache-2.0
"""What was found and what is annotated in; what of both is right, missed, false or of the wrong class out."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Int64

from unisegment.ops.masks import segment_areas, segment_index_maps
from unisegment.structures import SegmentationTarget
from unisegment.visualization.drawables import Segments


class Verdict(IntEnum):
    """What became of a segment."""

    RIGHT = 0
    WRONG_CLASS = 1
    MISSED = 2
    FALSE = 3
    IGNORED = 4


@dataclass(frozen=True)
class Matches:
    """What became of each segment.

    Args:
        found: Verdict of each predicted segment.
        annotated: Verdict of each annotated segment.
        partners: For each predicted segment that has one, the annotated segment that it covers.
    """

    found: list[Verdict]
    annotated: list[Verdict]
    partners: dict[int, int]


def match_segments(prediction: Segments, annotation: Segments) -> Matches:
    """Match segments that share more than half of their union, best score first, those of one label before others.

    Crowds are never missed. A segment that mostly lies in a crowd of its label is ignored, and neither is one that
    mostly lies in void where pixels of no segment are void; void does not count for the union then.

    Source:
        A. Kirillov et al., "Panoptic Segmentation", 2019, section 4.
    """
    inter, void = _intersections(prediction.target, annotation.target)
    found_areas, areas = segment_areas(prediction.target).numpy(), segment_areas(annotation.target).numpy()
    void = void * prediction.is_rest_void
    is_crowd = annotation.target.is_crowd.numpy()
    found_labels, labels = prediction.target.labels.numpy(), annotation.target.labels.numpy()
    ignored = void + (inter * (is_crowd & (labels == found_labels[:, None]))).sum(axis=1)
    unions = (found_areas - void)[:, None] + areas - inter
    overlap = np.where(is_crowd, 0, inter / np.maximum(unions, 1))
    found = [Verdict.FALSE] * len(prediction.target)
    annotated = [Verdict.IGNORED if crowd else Verdict.MISSED for crowd in is_crowd]
    partners: dict[int, int] = {}
    order = sorted(range(len(found)), key=lambda index: -(prediction.scores[index] or 0))
    for verdict in (Verdict.RIGHT, Verdict.WRONG_CLASS):
        for index in order:
            may_match = np.array([other == Verdict.MISSED for other in annotated], dtype=np.bool_)
            if verdict == Verdict.RIGHT:
                may_match &= labels == found_labels[index]
            overlaps = np.where(may_match, overlap[index], 0)
            if found[index] == Verdict.FALSE and overlaps.max(initial=0) > 0.5:
                partners[index] = int(overlaps.argmax())
                found[index] = annotated[partners[index]] = verdict
            elif found[index] == Verdict.FALSE and ignored[index] > 0.5 * found_areas[index]:
                found[index] = Verdict.IGNORED
    return Matches(found, annotated, partners)


def _intersections(
    found: SegmentationTarget, annotated: SegmentationTarget
) -> tuple[Int64[np.ndarray, "n m"], Int64[np.ndarray, " n"]]:
    """Return how many pixels each two share, and how many of each one found lie in nothing annotated."""
    # Only pixels of segments are kept: of n masks these are few.
    pixels = []
    for index_map in segment_index_maps(found):
        flat = index_map.numpy().ravel()
        places = np.flatnonzero(flat >= 0)
        pixels.append((places, flat[places]))
    inter = np.zeros((len(found), len(annotated)), dtype=np.int64)
    is_void = np.ones(found.size, dtype=np.bool_).ravel()
    for index_map in segment_index_maps(annotated):
        flat = index_map.numpy().ravel()
        is_void &= flat < 0
        for places, indices in pixels:
            inside = flat[places] >= 0
            pairs = indices[inside] * len(annotated) + flat[places[inside]]
            inter += np.bincount(pairs, minlength=inter.size).reshape(inter.shape)
    void = np.zeros(len(found), dtype=np.int64)
    for places, indices in pixels:
        void += np.bincount(indices[is_void[places]], minlength=len(found))
    return inter, void
