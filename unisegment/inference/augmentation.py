# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation: one image at several sizes and mirrored in, the label map of their mean scores out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor

from unisegment.data.transforms.resizing import resize_image, shortest_edge_size
from unisegment.inference.images import Batch, PreparedImage
from unisegment.inference.predictor import Predictor
from unisegment.postprocessing.semantic import ClassScores, label_pixels
from unisegment.structures import SemanticPrediction
from unisegment.types import Size

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Sizes relative to that of the test, as the original has them for each of its data sets."""

_LONGEST_EDGE = 4
"""Limit of the long side, relative to the largest short side."""


class View(NamedTuple):
    """What the network said of one version of an image.

    Args:
        outputs: Its output for this version alone.
        processor: Prepared the version, and reads the output.
        is_mirrored: Whether left and right were exchanged.
    """

    outputs: Any
    processor: Any
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
        """Return the label of each pixel; `outputs`, of the images as they are prepared otherwise, does not count."""
        found = [
            mean_semantic_prediction(list(self._views(item)), item.image.size, self.num_labels, self.model.device)
            for item in batch
        ]
        return self.processor.named(found, self.num_labels)

    def _views(self, item: PreparedImage) -> Iterator[View]:
        resample = Image.Resampling(self.processor.resample)
        tested = resize_image(item.image.image, self.processor.prepared_size(item.image.size), resample)
        edges = [round(scale * min(tested.shape[:2])) for scale in self.scales]
        for edge in edges:
            size = shortest_edge_size((tested.shape[0], tested.shape[1]), edge, _LONGEST_EDGE * max(edges))
            resized = resize_image(tested, size, resample)
            processor = type(self.processor)(**self.processor.settings() | {"do_resize": True, "size": size})
            for is_mirrored in (False, True):
                image = resized[:, ::-1].copy() if is_mirrored else resized
                inputs = processor(images=[image], return_tensors="pt")
                version = item._replace(pixel_values=inputs["pixel_values"], pixel_mask=inputs["pixel_mask"])
                yield View(self.forward([version]), processor, is_mirrored)


def mean_semantic_prediction(
    views: Sequence[View],
    target_size: Size,
    num_labels: int,
    device: torch.device,
    max_elements: int | None = None,
) -> SemanticPrediction:
    """Give every pixel the label with the highest mean score.

    Scores are those of `post_process_semantic_segmentation`, made a few rows at a time: beside the output for all
    versions, memory does not grow with the target size.

    Args:
        views: The versions of one image.
        target_size: Height and width of the result.
        num_labels: Number of labels.
        device: Where the outputs are.
        max_elements: Numbers to hold at a time, beside the result and for each version. None takes what suits the
            device.
    """

    def mean(rows: slice) -> Float32[Tensor, "k _ w"]:
        total = torch.zeros(num_labels, rows.stop - rows.start, target_size[1], device=device)
        for view in views:
            scores = view.processor.semantic_scores(view.outputs, 0, target_size, rows)
            total += scores.flip(-1) if view.is_mirrored else scores
        return total / len(views)

    row_elements = max(view.processor.semantic_row_elements(view.outputs, target_size) for view in views)
    scores = ClassScores(target_size, num_labels, row_elements, device, mean)
    return label_pixels([scores], max_elements=max_elements)[0]
