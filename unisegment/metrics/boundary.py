# SPDX-License-Identifier: Apache-2.0
"""How well borders are met: masks or label maps in, their pixels near a border out, and the overlap of those.

The boundary of a mask is what a square of 2 d + 1 pixels cannot be moved over without leaving the mask; the border of
the image counts as a border. d is 2 % of the image's diagonal. Axes: n segment, k class, h w pixel grid.

Source: Boundary IoU (arXiv:2103.16562) and its code (github.com/bowenc0221/boundary-iou-api).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int64, Integer
from torch import Tensor
from torch.nn import functional as F

from unisegment.metrics.mean_iou import MeanIoU, check_maps, confusion_matrix, iou_of_counts, label_map
from unisegment.structures import SegmentationTarget
from unisegment.types import Size

DILATION_RATIO = 0.02
"""Width of boundaries as a share of the image's diagonal."""


def boundary_width(size: Size, dilation_ratio: float = DILATION_RATIO) -> int:
    """Return the width in pixels, at least 1, of the boundaries in an image of this height and width."""
    height, width = size
    return max(1, round(dilation_ratio * (height**2 + width**2) ** 0.5))


def boundaries(masks: Bool[Tensor, "n h w"], width: int) -> Bool[Tensor, "n h w"]:
    """Return the pixels of each mask within `width` rows and columns of one outside of it, or of the image.

    One mask at a time, so that the memory beside the result does not grow with n.
    """
    found = torch.empty_like(masks)
    for index, mask in enumerate(masks):
        found[index] = mask & ~_eroded(mask, width)
    return found


def _eroded(mask: Bool[Tensor, "h w"], width: int) -> Bool[Tensor, "h w"]:
    side = 2 * width + 1
    # Each entry counts the mask above and to the left of it, from which the count of any square follows.
    counts = F.pad(mask.to(torch.int32), (width + 1, width, width + 1, width)).cumsum(0).cumsum(1)
    inside = counts[side:, side:] - counts[:-side, side:] - counts[side:, :-side] + counts[:-side, :-side]
    return inside == side**2


class BoundaryIoU(MeanIoU):
    """Intersection over union of the boundaries of each label's pixels, over the data set.

    Args:
        num_labels: Number of classes.
        ignore_index: Value of pixels without a label; must not be a label itself.

    Attributes:
        state: Pixels by the label whose boundary they are on in the target (row) and in the prediction (column), the
            last of each for "on none"; the states of two halves of a data set add up.

    Source: as `MeanIoU`, on boundaries as above. detectron2's evaluator takes differences of label numbers for
        boundaries, which mixes classes; its figures cannot be compared with these.
    """

    def reset(self) -> None:
        """Forget everything."""
        self.state = torch.zeros(self.num_labels + 1, self.num_labels + 1, dtype=torch.int64)

    def update(
        self,
        predictions: Sequence[Integer[Tensor, "_ _"]],
        targets: Sequence[SegmentationTarget | Integer[Tensor, "_ _"]],
    ) -> None:
        """Add images, given as to `MeanIoU.update`. Pixels without a true label are not evaluated."""
        counts = [self._count(*pair) for pair in zip(predictions, targets, strict=True)]
        self.state = sum(counts, start=self.state)

    def compute(self) -> dict[str, Any]:
        """Return `miou`, over the classes with a boundary in the targets, and `per_class`, a dict from label to IoU.

        All in [0, 1], or NaN where there is nothing to evaluate.
        """
        correct = self.state.diagonal()[:-1]
        iou = iou_of_counts(correct, self.state[:-1].sum(dim=1), self.state[:, :-1].sum(dim=0))
        return {"miou": iou.nanmean().item(), "per_class": dict(enumerate(iou.tolist()))}

    def _count(
        self, prediction: Integer[Tensor, "_ _"], target: SegmentationTarget | Integer[Tensor, "_ _"]
    ) -> Int64[Tensor, "k+1 k+1"]:
        if isinstance(target, SegmentationTarget):
            target = label_map(target, self.ignore_index)
        prediction = prediction.to(target.device)
        check_maps(prediction, target)
        is_labelled = target != self.ignore_index
        true, predicted = (self._boundary_labels(labels) for labels in (target, prediction))
        # "On none" is one label more; the "no label" of the matrix stays empty.
        counts = confusion_matrix(predicted, torch.where(is_labelled, true, -1), self.num_labels + 1, ignore_index=-1)
        return counts[:, :-1].cpu()

    def _boundary_labels(self, labels: Integer[Tensor, "h w"]) -> Int64[Tensor, "h w"]:
        """Return the label of each pixel on a boundary, `num_labels` elsewhere."""
        labels = labels.to(torch.int64)
        width = boundary_width((labels.shape[0], labels.shape[1]))
        on_boundary = torch.zeros_like(labels, dtype=torch.bool)
        for label in labels.unique().tolist():
            if label != self.ignore_index:
                on_boundary |= boundaries((labels == label)[None], width)[0]
        return torch.where(on_boundary, labels, self.num_labels)
