# SPDX-License-Identifier: Apache-2.0
"""Class and mask logits of all queries in, the label of every pixel out.

Axes: b image, q query, k class (the last logit is "no object"), h w mask grid or,
where said, the wanted size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from unisegment.ops.transfers import fetch
from unisegment.postprocessing.resize import MAX_ELEMENTS, Frame, frames_of_batch, resize_rows
from unisegment.postprocessing.tiles import PART, SLACK, Bounds, Tiles
from unisegment.structures import SemanticPrediction
from unisegment.types import Size

_NEGLIGIBLE = 2**-24
"""Share of a score below which float32 rounds."""


@torch.no_grad()
def semantic_predictions(
    class_queries_logits: Float[Tensor, "b q k"],
    masks_queries_logits: Float[Tensor, "b q h w"],
    image_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None = None,
    target_sizes: Int[Tensor, "b 2"] | Sequence[Size] | None = None,
    *,
    mask_stride: int = 4,
    return_segmentation_scores: bool = False,
    max_elements: int | None = None,
) -> list[SemanticPrediction]:
    """Give every pixel the label with the highest score.

    The score of a class at a pixel is the sum over the queries of the query's probability of the class times its
    probability of the pixel. Scores are made at the target size, from resized logits. The original code does so for
    models that also give instances or panoptic results; for models that give nothing else it makes scores on the
    canvas and resizes them, which smooths borders a little differently.

    Queries that overlap add up to more than 1. The `score` of a label in `segments_info` is therefore its part of the
    sum over all classes, where that sum exceeds 1, averaged over the pixels of the label.

    Args:
        class_queries_logits: Logits of the classes and, last, of "no object".
        masks_queries_logits: Logits on a coarser grid over the canvas.
        image_sizes: Height and width of each image on the canvas, without padding; None means the whole canvas.
        target_sizes: Height and width of each result; None means those of the image on the canvas.
        mask_stride: Pixels of the canvas for one cell of that grid.
        return_segmentation_scores: Also return the scores of all classes: k numbers for each pixel.
        max_elements: Numbers to hold at a time, beside the result: they bound the memory, and results do not depend on
            them. None takes what suits the device: 2^22 on a CPU, 2^27 on a GPU.

    Raises:
        ValueError: When shapes, counts or sizes do not fit together.

    Source:
        Mask2Former (arXiv:2112.01527), maskformer_model.py, semantic_inference.
    """
    # An accelerator is waited for twice, for all images together: for their sizes, and for the labels that occur.
    image_sizes, target_sizes = fetch(image_sizes, target_sizes)
    frames = frames_of_batch(class_queries_logits, masks_queries_logits, image_sizes, target_sizes, mask_stride)
    of_images = list(zip(class_queries_logits, masks_queries_logits, frames, strict=True))
    if masks_queries_logits.device == torch.device("cpu") and not return_segmentation_scores:
        return _predictions([_label_tiles(*of_image, max_elements) for of_image in of_images])
    images = [class_scores(*of_image) for of_image in of_images]
    return label_pixels(images, return_segmentation_scores=return_segmentation_scores, max_elements=max_elements)


@dataclass(frozen=True)
class ClassScores:
    """Scores of all classes for the pixels of an image, made when they are asked for, some rows at a time.

    Args:
        size: Height and width of the result.
        num_classes: How many classes there are.
        row_elements: Numbers that are held for one row while its scores are made, these included.
        device: Where they are made.
        of_rows: Returns the scores of some rows, in memory of their own.
    """

    size: Size
    num_classes: int
    row_elements: int
    device: torch.device
    of_rows: Callable[[slice], Float32[Tensor, "k _ w"]]


def class_scores(class_logits: Float[Tensor, "q k"], mask_logits: Float[Tensor, "q h w"], frame: Frame) -> ClassScores:
    """Return the scores that queries give to the pixels of an image, see `semantic_predictions`.

    Args:
        class_logits: Logits of the classes and, last, of "no object".
        mask_logits: Logits on the mask grid.
        frame: Place of the image and size of the result.
    """
    num_queries, num_classes = class_logits.shape[0], class_logits.shape[1] - 1
    class_probs = class_logits.float().softmax(-1)[:, :-1]

    def of_rows(rows: slice) -> Float32[Tensor, "k _ w"]:
        logits = resize_rows(mask_logits, frame, rows)
        # Under autocast the product would have a precision of two or three digits.
        with torch.autocast(logits.device.type, enabled=False):
            return torch.einsum("qk,qhw->khw", class_probs, logits.sigmoid_())

    width = frame.target_size[1]
    row_elements = num_queries * max(mask_logits.shape[-1] * frame.mask_stride, width) + num_classes * width
    return ClassScores(frame.target_size, num_classes, row_elements, mask_logits.device, of_rows)


@torch.no_grad()
def label_pixels(
    images: Sequence[ClassScores], *, return_segmentation_scores: bool = False, max_elements: int | None = None
) -> list[SemanticPrediction]:
    """Give every pixel of some images the label with the highest score; see `semantic_predictions` for the rest."""
    return _predictions([_label_pixels(image, return_segmentation_scores, max_elements) for image in images])


def _predictions(maps: Sequence["_Pixels"]) -> list[SemanticPrediction]:
    found = fetch(*[pixels.sums for pixels in maps])
    return [
        SemanticPrediction(pixels.labels, _labels_found(sums), pixels.scores)
        for pixels, sums in zip(maps, found, strict=True)
    ]


class _Pixels(NamedTuple):
    """The label of each pixel, the scores of all classes where asked for, and what `_labels_found` needs."""

    labels: Int64[Tensor, "h w"]
    scores: Float32[Tensor, "k h w"] | None
    sums: Float[Tensor, "2 _ k"]


def _label_pixels(image: ClassScores, return_scores: bool, max_elements: int | None) -> _Pixels:
    labels = torch.empty(image.size, dtype=torch.int64, device=image.device)
    shares = torch.empty(image.size, device=image.device)
    all_scores = shares.new_empty(image.num_classes, *image.size) if return_scores else None
    step = max(MAX_ELEMENTS.on(image.device, max_elements) // image.row_elements, 1)
    for first in range(0, image.size[0], step):
        rows = slice(first, min(first + step, image.size[0]))
        scores = image.of_rows(rows)
        best, labels[rows] = scores.max(dim=0)
        shares[rows] = best / scores.sum(dim=0).clamp(min=1)
        if all_scores is not None:
            all_scores[:, rows] = scores
    return _Pixels(labels, all_scores, _sums_of_rows(labels, shares, image.num_classes))


def _label_tiles(
    class_logits: Float[Tensor, "q k"], mask_logits: Float[Tensor, "q h w"], frame: Frame, max_elements: int | None
) -> _Pixels:
    """Do what `_label_pixels` does, in each tile only with the classes and queries that matter there."""
    tiles = Tiles(mask_logits, torch.arange(len(mask_logits)), frame, max_elements)
    class_probs = class_logits.float().softmax(-1)[:, :-1].T
    num_classes = len(class_probs)
    with torch.autocast("cpu", enabled=False):
        # The last row gives the sum of all scores.
        with_sum = torch.cat([class_probs, class_probs.sum(dim=0, keepdim=True)])
        labels = torch.empty(frame.target_size, dtype=torch.int64)
        sums = torch.zeros(2, num_classes, dtype=torch.float64)
        for number, tile in enumerate(tiles.places):
            if tile.columns.start == 0:
                matters = _what_matters(tiles.bounds_of_parts(tile), with_sum)
            parts = slice(tile.columns.start // PART, -(-tile.columns.stop // PART))
            classes, queries = (which[:, parts].any(dim=1).any(dim=0).nonzero()[:, 0] for which in matters)
            probs = tiles.logits(number, queries).sigmoid_().transpose(0, 1)
            of_queries = with_sum[[*classes.tolist(), num_classes]][:, queries]
            scores = of_queries.expand(len(probs), -1, -1) @ probs
            best, places = scores[:, :-1].max(dim=1)
            found = classes[places]
            labels[tile.rows, tile.columns] = found
            shares = (best / scores[:, -1].clamp(min=1)).double()
            sums[0] += found.flatten().bincount(minlength=num_classes)
            sums[1] += found.flatten().bincount(shares.flatten(), minlength=num_classes)
    return _Pixels(labels, None, sums[:, None])


def _what_matters(
    bounds: Bounds, with_sum: Float32[Tensor, "k1 q"]
) -> tuple[Bool[Tensor, "*part k"], Bool[Tensor, "*part q"]]:
    """Return the classes that may be the best at a pixel of each part, and the queries that change scores there.

    Args:
        bounds: Of the logits in each part.
        with_sum: Probabilities of the classes, and their sum.
    """
    lowest, highest = (logits.sigmoid() for logits in bounds)
    least_best = (lowest @ with_sum[:-1].T).amax(dim=-1, keepdim=True)
    # Of NaN nothing is known. What all other queries add together is less than the rounding of the best score.
    classes = ~(highest @ with_sum[:-1].T * (1 + SLACK) < least_best)
    queries = ~(highest * with_sum[-1] * highest.shape[-1] <= _NEGLIGIBLE * least_best)
    return classes, queries


def _sums_of_rows(
    labels: Int[Tensor, "h w"], shares: Float32[Tensor, "h w"], num_classes: int
) -> Float32[Tensor, "2 h k"]:
    """Return the number of pixels of each label in each row, and the sum of their scores.

    Args:
        labels: Label of each pixel.
        shares: Score of each pixel's label.
        num_classes: Labels are below it.
    """
    rows = torch.zeros(2, len(labels), num_classes, device=labels.device)
    for row_sums, values in zip(rows, (torch.ones_like(shares), shares), strict=True):
        row_sums.scatter_add_(1, labels, values)
    return rows


def _labels_found(sums: Float32[Tensor, "2 h k"]) -> list[dict[str, int | float]]:
    """Return what `SemanticPrediction.segments_info` says of each label that occurs.

    Args:
        sums: What `_sums_of_rows` returns, on the CPU: rows are added in float64, which Apple's GPUs do not have.
    """
    areas, totals = sums.double().sum(dim=1).tolist()
    return [
        {"id": label, "label_id": label, "score": total / area, "was_fused": True}
        for label, (area, total) in enumerate(zip(areas, totals, strict=True))
        if area > 0
    ]
