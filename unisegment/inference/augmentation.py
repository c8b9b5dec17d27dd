# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation: one image at several sizes and mirrored in, the label map of their mean scores out.

Axes: q query, k class (the last logit is "no object"), h w mask grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unisegment.data.transforms.resizing import resize_image, shortest_edge_size
from unisegment.inference.images import Batch, PreparedImage
from unisegment.inference.predictor import Predictor
from unisegment.postprocessing.resize import MASK_STRIDE, MAX_ELEMENTS, Frame, resize_rows
from unisegment.postprocessing.semantic import labels_found, sums_of_rows
from unisegment.structures import SemanticPrediction
from unisegment.types import Size

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Sizes relative to that of the test, as the original has them for each of its data sets."""

_LONGEST_EDGE = 4
"""Limit of the long side, relative to the largest short side."""


class View(NamedTuple):
    """What the network said of one version of an image.

    Args:
        class_logits: Logits of the classes and, last, of "no object".
        mask_logits: Logits on a grid of stride 4 of the canvas.
        image_size: Height and width of the image on the canvas.
        is_mirrored: Whether left and right were exchanged.
    """

    class_logits: Float[Tensor, "q k"]
    mask_logits: Float[Tensor, "q h w"]
    image_size: Size
    is_mirrored: bool


@dataclass(frozen=True)
class AugmentedPredictor(Predictor):
    """Our model and post-processing, with semantic results from several versions of each image.

    Args:
        scales: Lengths of the short side relative to that of the image as it is prepared without augmentation.

    Source:
        Mask2Former (arXiv:2112.01527), test_time_augmentation.py: the image is resized for the test, then to each of
        the sizes; scores are averaged at the original size.
    """

    scales: Sequence[float] = SCALES

    def semantic(self, batch: Batch, outputs: Any) -> list[SemanticPrediction]:
        """Return the label of each pixel; of `outputs`, only the sizes of the prepared images are used."""
        sizes = outputs.image_sizes.tolist()
        return [self._semantic(item, (height, width)) for item, (height, width) in zip(batch, sizes, strict=True)]

    def _semantic(self, item: PreparedImage, prepared_size: Size) -> SemanticPrediction:
        return mean_semantic_prediction(list(self._views(item, prepared_size)), item.image.size)

    def _views(self, item: PreparedImage, prepared_size: Size) -> Iterator[View]:
        resample = Image.Resampling(self.processor.resample)
        tested = resize_image(item.image.image, prepared_size, resample)
        edges = [round(scale * min(tested.shape[:2])) for scale in self.scales]
        for edge in edges:
            size = shortest_edge_size((tested.shape[0], tested.shape[1]), edge, _LONGEST_EDGE * max(edges))
            resized = resize_image(tested, size, resample)
            for is_mirrored in (False, True):
                image = resized[:, ::-1].copy() if is_mirrored else resized
                inputs = self.processor(images=[image], return_tensors="pt", do_resize=False)
                version = item._replace(pixel_values=inputs["pixel_values"], pixel_mask=inputs["pixel_mask"])
                found = self.forward([version])
                yield View(found.class_queries_logits[0], found.masks_queries_logits[0], size, is_mirrored)


@torch.no_grad()
def mean_semantic_prediction(
    views: Sequence[View], target_size: Size, max_elements: int | None = None
) -> SemanticPrediction:
    """Give every pixel the label with the highest mean score.

    Scores are those of `unisegment.postprocessing.semantic_predictions`, made a few rows at a time: beside the logits
    of all versions, memory does not grow with the target size.

    Args:
        views: The versions of one image.
        target_size: Height and width of the result.
        max_elements: Numbers to hold at a time, beside the result and for each version. None takes what suits the
            device.
    """
    num_classes = views[0].class_logits.shape[1] - 1
    labels = torch.empty(target_size, dtype=torch.int64, device=views[0].mask_logits.device)
    shares = torch.empty(target_size, device=labels.device)
    # Rows in step: each version holds another number of them at a time unless told otherwise.
    costs = [_numbers_of_a_row(view, target_size, num_classes) for view in views]
    step = max(MAX_ELEMENTS.on(labels.device, max_elements) // max(costs), 1)
    rows_of_views = [
        resize_rows(view.mask_logits, Frame(view.image_size, target_size), num_classes, step * cost)
        for view, cost in zip(views, costs, strict=True)
    ]
    for parts in zip(*rows_of_views, strict=True):
        rows = parts[0][0]
        total = torch.zeros(num_classes, rows.stop - rows.start, target_size[1], device=labels.device)
        for view, (_, logits) in zip(views, parts, strict=True):
            probs = view.class_logits.float().softmax(-1)[:, :-1]
            with torch.autocast(logits.device.type, enabled=False):
                scores = torch.einsum("qk,qhw->khw", probs, logits.sigmoid_())
            total += scores.flip(-1) if view.is_mirrored else scores
        total /= len(views)
        best, labels[rows] = total.max(dim=0)
        shares[rows] = best / total.sum(dim=0).clamp(min=1)
    return SemanticPrediction(labels, labels_found(sums_of_rows(labels, shares, num_classes).cpu()))


def _numbers_of_a_row(view: View, target_size: Size, num_classes: int) -> int:
    """Return how many numbers a row of the result takes, as `resize_rows` counts them."""
    num_queries, _, grid_width = view.mask_logits.shape
    return num_queries * max(grid_width * MASK_STRIDE, target_size[1]) + num_classes * target_size[1]
