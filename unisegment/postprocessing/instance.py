# SPDX-License-Identifier: Apache-2.0
"""Class and mask logits of all queries in, scored objects with masks that may overlap out.

Axes: b image, q query, k class (the last logit is "no object"), n object, h w mask grid or,
where said, the wanted size.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from torch import Tensor

from unisegment.postprocessing.resize import (
    MAX_ELEMENTS,
    Frame,
    check_share,
    check_threshold,
    frames_of_batch,
    logit,
    resize_queries,
)
from unisegment.structures import InstancePrediction
from unisegment.types import Size


class _Rules(NamedTuple):
    threshold: float
    mask_threshold: float
    overlap_mask_area_threshold: float | None
    top_k: int
    label_ids: list[int] | None
    max_elements: int


@torch.no_grad()
def instance_predictions(
    class_queries_logits: Float[Tensor, "b q k"],
    masks_queries_logits: Float[Tensor, "b q h w"],
    image_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None = None,
    target_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None = None,
    *,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float | None = None,
    top_k: int = 100,
    label_ids: Collection[int] | None = None,
    max_elements: int = MAX_ELEMENTS,
) -> list[InstancePrediction]:
    """Return the best pairs of a query and a class as objects.

    One query can make several objects of different labels. The score of an object is its class probability times
    the mean mask probability inside its mask.

    Args:
        class_queries_logits: Logits of the classes and, last, of "no object".
        masks_queries_logits: Logits on a grid of stride 4 of the canvas.
        image_sizes: Height and width of each image on the canvas, without padding; None means the whole canvas.
        target_sizes: Height and width of each result; None means those of the image on the canvas.
        threshold: Score that an object must exceed; none exceeds 1. 0.0, for evaluation, keeps all of the `top_k` that
            have a mask: an empty mask scores 0.
        mask_threshold: Mask probability, in [0, 1], that a pixel of a mask must exceed.
        overlap_mask_area_threshold: Share of its mask, in [0, 1], that an object must show; what a better object of
            the result covers is hidden. None, as in the original code, keeps all.
        top_k: Pairs of a query and a class, the most probable ones, that are looked at.
        label_ids: Labels to return; None means all. Models that also know stuff are judged on their things by it.
            Other labels still count among the `top_k`.
        max_elements: Numbers to hold at a time, beside the result.

    Raises:
        ValueError: When shapes, counts or sizes do not fit together, `threshold` is below 0, another threshold is not
            in [0, 1], or `top_k` is below 1.

    Source:
        Mask2Former (arXiv:2112.01527), maskformer_model.py, instance_inference.
    """
    check_threshold(threshold)
    check_share("mask_threshold", mask_threshold)
    if overlap_mask_area_threshold is not None:
        check_share("overlap_mask_area_threshold", overlap_mask_area_threshold)
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}.")
    frames = frames_of_batch(class_queries_logits, masks_queries_logits, image_sizes, target_sizes)
    labels = None if label_ids is None else sorted(label_ids)
    rules = _Rules(threshold, mask_threshold, overlap_mask_area_threshold, top_k, labels, max_elements)
    return [
        _predict(class_logits, mask_logits, frame, rules)
        for class_logits, mask_logits, frame in zip(class_queries_logits, masks_queries_logits, frames, strict=True)
    ]


def _predict(
    class_logits: Float[Tensor, "q k"], mask_logits: Float[Tensor, "q h w"], frame: Frame, rules: _Rules
) -> InstancePrediction:
    class_probs, queries, labels = _candidates(class_logits, rules)
    used_queries, place = queries.unique(return_inverse=True)
    all_masks, mask_scores = _masks(mask_logits[used_queries], frame, rules)
    scores = class_probs * mask_scores[place]
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > rules.threshold]
    masks = all_masks[place[order]]
    if rules.overlap_mask_area_threshold is not None:
        is_shown = _is_shown(masks, rules.overlap_mask_area_threshold)
        order, masks = order[is_shown], masks[is_shown]
    segments_info = [
        {"id": index + 1, "label_id": label, "score": score, "was_fused": False}
        for index, (label, score) in enumerate(zip(labels[order].tolist(), scores[order].tolist(), strict=True))
    ]
    return InstancePrediction(_paint(masks), segments_info, masks)


def _candidates(
    class_logits: Float[Tensor, "q k"], rules: _Rules
) -> tuple[Float32[Tensor, " n"], Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return class probability, query and label of the pairs that may make an object, the most probable first."""
    class_probs = class_logits.float().softmax(-1)[:, :-1]
    num_classes = class_probs.shape[1]
    # A stable sort instead of `topk`, which orders equals at will.
    probs, pairs = class_probs.flatten().sort(descending=True, stable=True)
    probs, pairs = probs[: rules.top_k], pairs[: rules.top_k]
    queries, labels = pairs // num_classes, pairs % num_classes
    # The score cannot exceed the class probability, so what fails here need not be resized.
    is_wanted = probs > rules.threshold
    if rules.label_ids is not None:
        is_wanted &= torch.isin(labels, torch.tensor(rules.label_ids, dtype=torch.int64, device=labels.device))
    return probs[is_wanted], queries[is_wanted], labels[is_wanted]


def _masks(
    mask_logits: Float[Tensor, "n _ _"], frame: Frame, rules: _Rules
) -> tuple[Bool[Tensor, "n h w"], Float32[Tensor, " n"]]:
    """Return the mask of each query and the mean probability inside it, 0 for an empty mask."""
    masks = torch.empty(len(mask_logits), *frame.target_size, dtype=torch.bool, device=mask_logits.device)
    mean_probs = torch.empty(len(mask_logits), device=mask_logits.device)
    mask_logit = logit(rules.mask_threshold)
    for chunk, logits in resize_queries(mask_logits, frame, rules.max_elements):
        masks[chunk] = logits > mask_logit
        inside = logits.sigmoid_().mul_(masks[chunk]).flatten(1)
        mean_probs[chunk] = inside.sum(dim=1) / (masks[chunk].flatten(1).sum(dim=1) + 1e-6)
    return masks, mean_probs


def _is_shown(masks: Bool[Tensor, "n h w"], min_share: float) -> Bool[Tensor, " n"]:
    covered = torch.zeros(masks.shape[1:], dtype=torch.bool, device=masks.device)
    is_shown = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    # Numbers of pixels are compared: a share needs float64 to be exact, which Apple's GPUs do not have.
    areas = masks.flatten(1).sum(dim=1).tolist()
    for index, (mask, area) in enumerate(zip(masks, areas, strict=True)):
        is_shown[index] = (mask & ~covered).sum() >= _least_pixels(area, min_share)
        covered |= mask & is_shown[index]
    return is_shown


def _least_pixels(area: int, min_share: float) -> int:
    """Return the lowest number of pixels that is a large enough share of an area above 0."""
    return bisect_left(range(area), min_share, key=lambda pixels: pixels / area)


def _paint(masks: Bool[Tensor, "n h w"]) -> Int32[Tensor, "h w"]:
    segmentation = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    for index in reversed(range(len(masks))):
        segmentation.masked_fill_(masks[index], index + 1)
    return segmentation
