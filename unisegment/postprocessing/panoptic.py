# SPDX-License-Identifier: Apache-2.0
"""Class and mask logits of all queries in, one segment or void for every pixel out.

Axes: b image, q query, k class (the last logit is "no object"), n kept query, h w mask grid or,
where said, the wanted size.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Int, Int32, Int64
from torch import Tensor

from unisegment.ops.transfers import fetch, send
from unisegment.postprocessing.resize import (
    MAX_ELEMENTS,
    Frame,
    check_logits,
    check_share,
    check_threshold,
    frames_of_batch,
    logit,
    resize_queries,
)
from unisegment.postprocessing.tiles import SLACK, Tiles
from unisegment.structures import PanopticPrediction
from unisegment.types import Size


class _Rules(NamedTuple):
    threshold: float
    mask_threshold: float
    overlap_mask_area_threshold: float
    label_ids_to_fuse: frozenset[int]
    max_elements: int | None


@torch.no_grad()
def panoptic_predictions(
    class_queries_logits: Float[Tensor, "b q k"],
    masks_queries_logits: Float[Tensor, "b q h w"],
    image_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None = None,
    target_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None = None,
    *,
    mask_stride: int = 4,
    threshold: float = 0.8,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    label_ids_to_fuse: Collection[int] = (),
    max_elements: int | None = None,
) -> list[PanopticPrediction]:
    """Give every pixel to one segment or to none.

    Queries whose best class is "no object", or not surer than `threshold`, are left out. Every pixel goes to the
    query with the highest product of class and mask probability, the first one of equals. Queries become segments
    in their own order, unless too little of their mask is left; of a segment, pixels below `mask_threshold` are void.

    Args:
        class_queries_logits: Logits of the classes and, last, of "no object".
        masks_queries_logits: Logits on a coarser grid over the canvas.
        image_sizes: Height and width of each image on the canvas, without padding; None means the whole canvas.
        target_sizes: Height and width of each result; None means those of the image on the canvas.
        mask_stride: Pixels of the canvas for one cell of that grid.
        threshold: Class probability that a query must exceed; none exceeds 1.
        mask_threshold: Mask probability, in [0, 1], that a pixel must reach.
        overlap_mask_area_threshold: Share, in [0, 1], that a query must keep: pixels where it is the best one over
            pixels where it reaches `mask_threshold`.
        label_ids_to_fuse: Labels of stuff: all queries of such a label make one segment. Each query must keep its
            share by itself, and the score of the segment is that of the first one.
        max_elements: Numbers to hold at a time, beside the result: they bound the memory, and results do not depend on
            them. None takes what suits the device: 2^22 on a CPU, 2^27 on a GPU.

    Raises:
        ValueError: When shapes, counts or sizes do not fit together, `threshold` is below 0, or another threshold is
            not in [0, 1].

    Source:
        Mask2Former (arXiv:2112.01527), maskformer_model.py, panoptic_inference.
    """
    check_threshold(threshold)
    check_share("mask_threshold", mask_threshold)
    check_share("overlap_mask_area_threshold", overlap_mask_area_threshold)
    check_logits(class_queries_logits, masks_queries_logits)
    rules = _Rules(threshold, mask_threshold, overlap_mask_area_threshold, frozenset(label_ids_to_fuse), max_elements)
    # An accelerator is waited for twice, for all images together: to see what was found, and for the areas.
    scores, labels = class_queries_logits.float().softmax(-1).max(-1)
    image_sizes, target_sizes, known_scores, labels = fetch(image_sizes, target_sizes, scores, labels)
    frames = frames_of_batch(class_queries_logits, masks_queries_logits, image_sizes, target_sizes, mask_stride)
    no_object = class_queries_logits.shape[-1] - 1
    kept = [row.nonzero()[:, 0] for row in (labels != no_object) & (known_scores > threshold)]
    share = _share_tiles if scores.device == torch.device("cpu") else _share_pixels
    shared = [
        share(mask_logits, own_scores, send(queries, scores.device), frame, rules)
        for mask_logits, own_scores, queries, frame in zip(masks_queries_logits, scores, kept, frames, strict=True)
    ]
    areas = fetch(*[pixels.areas for pixels in shared])
    segments = [
        _make_segments(own_labels[queries].tolist(), own_scores[queries].tolist(), of_queries.tolist(), rules)
        for own_labels, own_scores, queries, of_queries in zip(labels, known_scores, kept, areas, strict=True)
    ]
    return [
        PanopticPrediction(_painted(shared.pop(0).owner, segment_ids), segments_info)
        for segment_ids, segments_info in segments
    ]


class _Pixels(NamedTuple):
    """Which kept query owns each pixel and reaches the mask threshold there, and for each query three areas.

    Where the owner does not reach the threshold, its number is n. The areas: of pixels that a query owns, of pixels
    where it reaches the threshold, and of pixels where both are true.
    """

    owner: Int32[Tensor, "h w"]
    areas: Int64[Tensor, "n 3"]


def _share_pixels(
    mask_logits: Float[Tensor, "q _ _"],
    scores: Float32[Tensor, " q"],
    kept: Int64[Tensor, " n"],
    frame: Frame,
    rules: _Rules,
) -> _Pixels:
    mask_logits, scores, num_queries = mask_logits[kept], scores[kept], len(kept)
    if num_queries == 0:
        owner = torch.zeros(frame.target_size, dtype=torch.int32, device=mask_logits.device)
        return _Pixels(owner, kept.new_zeros(0, 3))
    best = torch.full(frame.target_size, -1.0, device=mask_logits.device)
    owner = torch.zeros_like(best, dtype=torch.int32)
    is_inside = torch.zeros_like(best, dtype=torch.bool)
    mask_areas = torch.zeros_like(scores, dtype=torch.int64)
    mask_logit = logit(rules.mask_threshold)
    for chunk, logits in resize_queries(mask_logits, frame, rules.max_elements):
        masks = logits >= mask_logit
        mask_areas[chunk] = masks.sum(dim=(1, 2))
        weighted_probs = logits.sigmoid_().mul_(scores[chunk, None, None])
        for query, (value, mask) in enumerate(zip(weighted_probs, masks, strict=True), start=chunk.start):
            # Strictly better, so that of equals the first query owns the pixel.
            is_better = value > best
            torch.maximum(best, value, out=best)
            owner.masked_fill_(is_better, query)
            is_inside = torch.where(is_better, mask, is_inside)
    owned_outside, owned_inside = _count(owner + num_queries * is_inside, 2 * num_queries).view(2, num_queries)
    areas = torch.stack([owned_outside + owned_inside, mask_areas, owned_inside], dim=1)
    return _Pixels(owner.masked_fill_(~is_inside, num_queries), areas)


def _share_tiles(
    mask_logits: Float[Tensor, "q _ _"],
    scores: Float32[Tensor, " q"],
    kept: Int64[Tensor, " n"],
    frame: Frame,
    rules: _Rules,
) -> _Pixels:
    """Do what `_share_pixels` does, only with the queries that may own a pixel of a tile or end in it."""
    scores, num_queries = scores[kept], len(kept)
    owner = torch.full(frame.target_size, num_queries, dtype=torch.int32)
    areas = torch.zeros(num_queries, 3, dtype=torch.int64)
    if num_queries == 0:
        return _Pixels(owner, areas)
    tiles, mask_logit = Tiles(mask_logits, kept, frame, rules.max_elements), logit(rules.mask_threshold)
    lowest, highest = tiles.bounds()
    surest = (lowest.sigmoid() * scores).amax(dim=1, keepdim=True)
    # Of NaN nothing is known.
    may_own = ~(highest.sigmoid() * scores * (1 + SLACK) < surest)
    is_asked = may_own | (lowest < mask_logit) & (highest >= mask_logit)
    num_pixels = torch.tensor([math.prod(tile.size) for tile in tiles.places])
    areas[:, 1] = num_pixels @ (~is_asked & (lowest >= mask_logit)).long()
    for number, tile in enumerate(tiles.places):
        asked = is_asked[number].nonzero()[:, 0]
        logits = tiles.logits(number, asked)
        masks = logits >= mask_logit
        # The first one of equals.
        best = logits.sigmoid_().mul_(scores[asked, None, None]).max(dim=0).indices
        is_inside = masks.gather(0, best[None])[0]
        owned = best[is_inside].bincount(minlength=len(asked))
        areas[asked] += torch.stack([best.flatten().bincount(minlength=len(asked)), masks.sum((1, 2)), owned], dim=1)
        owner[tile.rows, tile.columns] = torch.where(is_inside, asked[best], num_queries)
    return _Pixels(owner, areas)


def _count(numbers: Int32[Tensor, "h w"], end: int) -> Int64[Tensor, " end"]:
    """Return how often each number below `end` occurs; `bincount` looks for the largest one first, and so waits."""
    rows = torch.zeros(len(numbers), end, dtype=torch.int32, device=numbers.device)
    rows.scatter_add_(1, numbers.long(), rows.new_ones(()).expand_as(numbers))
    return rows.sum(dim=0)


def _painted(owner: Int32[Tensor, "h w"], segment_ids: Sequence[int]) -> Int32[Tensor, "h w"]:
    """Return the segment of each pixel, 0 where its query has none or is not there."""
    id_of_query = send(torch.tensor([*segment_ids, 0], dtype=torch.int32), owner.device)
    # In place, some rows at a time, because places are made int64.
    for rows in owner.split(max(MAX_ELEMENTS.on(owner.device) // owner.shape[1], 1)):
        rows.copy_(id_of_query[rows])
    return owner


def _make_segments(
    labels: list[int], scores: list[float], areas: list[list[int]], rules: _Rules
) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the segment id of each query, 0 where it makes none, and the segments."""
    segment_ids: list[int] = []
    segments_info: list[dict[str, Any]] = []
    fused_ids: dict[int, int] = {}
    for label, score, (owned, mask_area, final_area) in zip(labels, scores, areas, strict=True):
        if final_area == 0 or owned / mask_area < rules.overlap_mask_area_threshold:
            segment_ids.append(0)
            continue
        segment_id = fused_ids.get(label, len(segments_info) + 1)
        is_fused = label in rules.label_ids_to_fuse
        if label not in fused_ids:
            segments_info.append({"id": segment_id, "label_id": label, "score": score, "was_fused": is_fused})
        if is_fused:
            fused_ids[label] = segment_id
        segment_ids.append(segment_id)
    return segment_ids, segments_info
