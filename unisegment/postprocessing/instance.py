# SPDX-License-Identifier: Apache-2.0
"""Class and mask logits of all queries in, scored objects with masks that may overlap out.

Axes: b image, q query, k class (the last logit is "no object"), n object, h w mask grid or,
where said, the wanted size.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from torch import Tensor
from torch.nn import functional as F

from unisegment.ops.transfers import fetch, send
from unisegment.postprocessing.resize import (
    Frame,
    check_logits,
    check_share,
    check_threshold,
    frames_of_batch,
    logit,
    resize_queries,
)
from unisegment.postprocessing.tiles import Tiles
from unisegment.structures import InstancePrediction
from unisegment.structures.predictions import paint
from unisegment.types import Size


class _Rules(NamedTuple):
    threshold: float
    mask_threshold: float
    overlap_mask_area_threshold: float | None
    top_k: int
    label_ids: list[int] | None
    max_elements: int | None


@torch.no_grad()
def instance_predictions(
    class_queries_logits: Float[Tensor, "b q k"],
    masks_queries_logits: Float[Tensor, "b q h w"],
    image_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None = None,
    target_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None = None,
    *,
    mask_stride: int = 4,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float | None = None,
    top_k: int = 100,
    label_ids: Collection[int] | None = None,
    max_elements: int | None = None,
) -> list[InstancePrediction]:
    """Return the best pairs of a query and a class as objects.

    One query can make several objects of different labels. The score of an object is its class probability times
    the mean mask probability inside its mask.

    Args:
        class_queries_logits: Logits of the classes and, last, of "no object".
        masks_queries_logits: Logits on a coarser grid over the canvas.
        image_sizes: Height and width of each image on the canvas, without padding; None means the whole canvas.
        target_sizes: Height and width of each result; None means those of the image on the canvas.
        mask_stride: Pixels of the canvas for one cell of that grid.
        threshold: Score that an object must exceed; none exceeds 1. 0.0, for evaluation, keeps all of the `top_k` that
            have a mask: an empty mask scores 0.
        mask_threshold: Mask probability, in [0, 1], that a pixel of a mask must exceed.
        overlap_mask_area_threshold: Share of its mask, in [0, 1], that an object must show; what a better object of
            the result covers is hidden. None, as in the original code, keeps all.
        top_k: Pairs of a query and a class, the most probable ones, that are looked at.
        label_ids: Labels to return; None means all. Models that also know stuff are evaluated on their things by it.
            Other labels still count among the `top_k`.
        max_elements: Numbers to hold at a time, beside the result: they bound the memory, and results do not depend on
            them. None takes what suits the device: 2^22 on a CPU, 2^27 on a GPU.

    Raises:
        ValueError: When shapes, counts or sizes do not fit together, `threshold` is below 0, another threshold is not
            in [0, 1], or `top_k` or `max_elements` is below 1.

    Source:
        Mask2Former (arXiv:2112.01527), maskformer_model.py, instance_inference.
    """
    check_threshold(threshold)
    check_share("mask_threshold", mask_threshold)
    if overlap_mask_area_threshold is not None:
        check_share("overlap_mask_area_threshold", overlap_mask_area_threshold)
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}.")
    check_logits(class_queries_logits, masks_queries_logits)
    labels = None if label_ids is None else sorted(label_ids)
    rules = _Rules(threshold, mask_threshold, overlap_mask_area_threshold, top_k, labels, max_elements)
    # An accelerator is waited for twice, for all images together: to see what may be an object, and for its mask. Then,
    # for each image, to see what others hide, where that counts.
    sorted_probs = _sorted_probs(class_queries_logits, top_k)
    image_sizes, target_sizes, probs, pairs = fetch(image_sizes, target_sizes, *sorted_probs)
    frames = frames_of_batch(class_queries_logits, masks_queries_logits, image_sizes, target_sizes, mask_stride)
    num_classes = class_queries_logits.shape[-1] - 1
    candidates = [_candidates(*row, num_classes, rules) for row in zip(probs, pairs, strict=True)]
    measure = _measure_tiles if masks_queries_logits.device == torch.device("cpu") else _measure
    made = [
        measure(mask_logits, own.queries, frame, rules)
        for mask_logits, own, frame in zip(masks_queries_logits, candidates, frames, strict=True)
    ]
    numbers = fetch(*[measured.mean_probs for measured in made], *[measured.areas for measured in made])
    # What was made for an image goes as soon as its prediction is there: at a threshold of 0 it is a hundred masks.
    return [
        _prediction(own, made.pop(0).draw, mean_probs, areas, rules)
        for own, mean_probs, areas in zip(candidates, numbers[: len(frames)], numbers[len(frames) :], strict=True)
    ]


def _sorted_probs(
    class_logits: Float[Tensor, "b q k"], top_k: int
) -> tuple[Float32[Tensor, "b n"], Int64[Tensor, "b n"]]:
    """Return the highest class probabilities, the highest first, and the pair of a query and a class of each."""
    class_probs = class_logits.float().softmax(-1)[..., :-1]
    # A stable sort instead of `topk`, which orders equals at will.
    probs, pairs = class_probs.flatten(1).sort(dim=1, descending=True, stable=True)
    return probs[:, :top_k], pairs[:, :top_k]


class _Candidates(NamedTuple):
    """What may make objects of an image, the most probable first; all of it on the CPU.

    `queries` are those that occur, each once; `places` says which of them each candidate is of.
    """

    probs: Float32[Tensor, " n"]
    labels: Int64[Tensor, " n"]
    places: Int64[Tensor, " n"]
    queries: Int64[Tensor, " m"]


def _candidates(
    probs: Float32[Tensor, " n"], pairs: Int64[Tensor, " n"], num_classes: int, rules: _Rules
) -> _Candidates:
    queries, labels = pairs // num_classes, pairs % num_classes
    # The score cannot exceed the class probability, so what fails here need not be resized.
    is_wanted = probs > rules.threshold
    if rules.label_ids is not None:
        is_wanted &= torch.isin(labels, torch.tensor(rules.label_ids, dtype=torch.int64))
    used_queries, places = queries[is_wanted].unique(return_inverse=True)
    return _Candidates(probs[is_wanted], labels[is_wanted], places, used_queries)


class _Measured(NamedTuple):
    """Of the mask of each query the mean probability inside it, 0 where it is empty, and how many pixels it has.

    `draw` takes places of queries, which may occur more than once, and returns their masks and these as one map.
    """

    mean_probs: Float32[Tensor, " m"]
    areas: Int64[Tensor, " m"]
    draw: Callable[[Int64[Tensor, " n"]], tuple[Bool[Tensor, "n h w"], Int32[Tensor, "h w"]]]


def _measure(
    mask_logits: Float[Tensor, "q _ _"], queries: Int64[Tensor, " m"], frame: Frame, rules: _Rules
) -> _Measured:
    mask_logits = _chosen(mask_logits, queries)
    masks = torch.empty(len(mask_logits), *frame.target_size, dtype=torch.bool, device=mask_logits.device)
    mean_probs = torch.empty(len(mask_logits), device=mask_logits.device)
    areas = torch.empty(len(mask_logits), dtype=torch.int64, device=mask_logits.device)
    mask_logit = logit(rules.mask_threshold)
    for chunk, logits in resize_queries(mask_logits, frame, rules.max_elements):
        masks[chunk] = logits > mask_logit
        inside = logits.sigmoid_().mul_(masks[chunk]).flatten(1)
        areas[chunk] = masks[chunk].flatten(1).sum(dim=1)
        mean_probs[chunk] = inside.sum(dim=1) / (areas[chunk] + 1e-6)

    def draw(places: Int64[Tensor, " n"]) -> tuple[Bool[Tensor, "n h w"], Int32[Tensor, "h w"]]:
        chosen = _chosen(masks, places)
        return chosen, paint(chosen, range(1, len(chosen) + 1))

    return _Measured(mean_probs, areas, draw)


def _measure_tiles(
    mask_logits: Float[Tensor, "q _ _"], queries: Int64[Tensor, " m"], frame: Frame, rules: _Rules
) -> _Measured:
    """Do what `_measure` does, only in tiles where a query has a mask; masks are made when they are drawn."""
    sums = torch.zeros(len(queries), dtype=torch.float64)
    areas = torch.zeros(len(queries), dtype=torch.int64)
    tiles, mask_logit = Tiles(mask_logits, queries, frame, rules.max_elements), logit(rules.mask_threshold)
    # Of NaN nothing is known.
    is_in = ~(tiles.bounds().highest <= mask_logit)
    for number in is_in.any(dim=1).nonzero()[:, 0].tolist():
        inside = is_in[number].nonzero()[:, 0]
        logits = tiles.logits(number, inside).flatten(1)
        areas[inside] += (logits > mask_logit).sum(dim=1)
        # Outside the mask the probability is exactly 0.
        sums[inside] += F.threshold(logits, mask_logit, -math.inf, inplace=True).sigmoid_().sum(dim=1)

    def draw(places: Int64[Tensor, " n"]) -> tuple[Bool[Tensor, "n h w"], Int32[Tensor, "h w"]]:
        masks = torch.zeros(len(places), *frame.target_size, dtype=torch.bool)
        segmentation = torch.zeros(frame.target_size, dtype=torch.int32)
        is_here = is_in[:, places]
        for number in is_here.any(dim=1).nonzero()[:, 0].tolist():
            here = is_here[number].nonzero()[:, 0]
            once, again = places[here].unique(return_inverse=True)
            parts = (tiles.logits(number, once) > mask_logit)[again]
            rows, columns = tiles.places[number]
            masks[here, rows, columns] = parts
            segmentation[rows, columns] = paint(parts, (here + 1).tolist())
        return masks, segmentation

    return _Measured((sums / (areas + 1e-6)).float(), areas, draw)


def _prediction(
    own: _Candidates,
    draw: Callable[[Int64[Tensor, " n"]], tuple[Bool[Tensor, "n h w"], Int32[Tensor, "h w"]]],
    mean_probs: Float32[Tensor, " m"],
    areas: Int64[Tensor, " m"],
    rules: _Rules,
) -> InstancePrediction:
    scores = own.probs * mean_probs[own.places]
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > rules.threshold]
    masks, segmentation = draw(own.places[order])
    if rules.overlap_mask_area_threshold is not None:
        (is_shown,) = fetch(_is_shown(masks, areas[own.places[order]].tolist(), rules.overlap_mask_area_threshold))
        order, masks = order[is_shown], _chosen(masks, is_shown.nonzero()[:, 0])
        segmentation = paint(masks, range(1, len(masks) + 1))
    segments_info = [
        {"id": index + 1, "label_id": label, "score": score, "was_fused": False}
        for index, (label, score) in enumerate(zip(own.labels[order].tolist(), scores[order].tolist(), strict=True))
    ]
    return InstancePrediction(segmentation, segments_info, masks)


def _chosen(rows: Tensor, places: Int64[Tensor, " n"]) -> Tensor:
    """Return some rows of a tensor, whose places come from the CPU."""
    return rows[send(places, rows.device)]


def _is_shown(masks: Bool[Tensor, "n h w"], areas: Sequence[int], min_share: float) -> Bool[Tensor, " n"]:
    covered = torch.zeros(masks.shape[1:], dtype=torch.bool, device=masks.device)
    is_shown = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    # Numbers of pixels are compared: a share needs float64 to be exact, which Apple's GPUs do not have.
    for index, (mask, area) in enumerate(zip(masks, areas, strict=True)):
        is_shown[index] = (mask & ~covered).sum() >= _least_pixels(area, min_share)
        covered |= mask & is_shown[index]
    return is_shown


def _least_pixels(area: int, min_share: float) -> int:
    """Return the lowest number of pixels that is a large enough share of an area above 0."""
    return bisect_left(range(area), min_share, key=lambda pixels: pixels / area)
