# SPDX-License-Identifier: Apache-2.0
"""How well the label of each pixel is predicted: predicted and true label maps in, mean IoU and accuracies out.

Axes: k class, h w pixel grid of the original image.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64, Int64, Integer, Shaped
from torch import Tensor

from unisegment.ops.masks import segment_index_map
from unisegment.structures import SegmentationTarget


def confusion_matrix(
    prediction: Integer[Tensor, "h w"], target: Integer[Tensor, "h w"], num_labels: int, ignore_index: int = 255
) -> Int64[Tensor, "k k+1"]:
    """Count the pixels of each true label by the label predicted for them.

    Args:
        prediction: Label of each pixel, 0 to `num_labels - 1`, or `ignore_index` where none was given: that is an
            error wherever the target has a label.
        target: True label of each pixel; where it is `ignore_index` the pixel is not evaluated.
        num_labels: Number k of classes.
        ignore_index: Value that is no label.

    Returns:
        Row: true label; column: predicted label, the last one "no label".

    Raises:
        ValueError: When the sizes differ, or when an evaluated pixel has a value that is neither a label nor
            `ignore_index`.
    """
    _check_ignore_index(num_labels, ignore_index)
    check_maps(prediction, target)
    is_labelled = target != ignore_index
    true_label = target[is_labelled].to(torch.int64)
    predicted_label = prediction[is_labelled].to(torch.int64)
    is_label = predicted_label != ignore_index
    _check_range("target", true_label, num_labels, ignore_index)
    _check_range("prediction", predicted_label[is_label], num_labels, ignore_index)
    predicted_label = torch.where(is_label, predicted_label, num_labels)
    pairs = true_label * (num_labels + 1) + predicted_label
    return torch.bincount(pairs, minlength=num_labels * (num_labels + 1)).view(num_labels, num_labels + 1)


class MeanIoU:
    """Mean intersection over union of label maps, and what else their confusion matrix tells.

    Args:
        num_labels: Number of classes.
        ignore_index: Value of pixels without a label; must not be a label itself.

    Attributes:
        state: The counts so far (see `confusion_matrix`); the states of two halves of a data set add up.

    Raises:
        ValueError: When `ignore_index` is one of the labels.

    Source: semantic evaluation of detectron2 (Apache-2.0), except that a pixel predicted to have no label is an error
    here (there it is left out; its models always predict a label).
    """

    def __init__(self, num_labels: int, ignore_index: int = 255) -> None:
        _check_ignore_index(num_labels, ignore_index)
        self.num_labels = num_labels
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.state: Int64[Tensor, "k k+1"] = torch.zeros(self.num_labels, self.num_labels + 1, dtype=torch.int64)

    def merge(self, other: "MeanIoU") -> None:
        """Add what another metric with the same arguments has seen."""
        if (other.num_labels, other.ignore_index) != (self.num_labels, self.ignore_index):
            raise ValueError("Only metrics with the same num_labels and ignore_index can be merged.")
        self.state = self.state + other.state

    def update(
        self,
        predictions: Sequence[Integer[Tensor, "_ _"]],
        targets: Sequence[SegmentationTarget | Integer[Tensor, "_ _"]],
    ) -> None:
        """Add images.

        Args:
            predictions: One label map an image, such as a SemanticPrediction, at the size of its target.
            targets: One an image: a label map, or a SegmentationTarget, whose void and crowd pixels are not evaluated.

        Raises:
            ValueError: See `confusion_matrix`; also when the lists differ in length or masks of a target overlap.
        """
        counts = [self._count(*pair) for pair in zip(predictions, targets, strict=True)]
        self.state = sum(counts, start=self.state)

    def compute(self) -> dict[str, Any]:
        """Return the scores, all in [0, 1], or NaN where nothing was evaluated.

        Returns:
            `miou`, the mean IoU over the classes that occur in the targets; `fwiou`, the same weighted by their
            pixels; `pixel_accuracy`; `mean_accuracy`, over the same classes; `per_class`, a dict from label to IoU.
        """
        correct = self.state.diagonal().to(torch.float64)
        true = self.state.sum(dim=1).to(torch.float64)
        predicted = self.state[:, :-1].sum(dim=0).to(torch.float64)
        # 0 / 0 of a class that does not occur is the NaN that nanmean leaves out.
        accuracy = correct / true
        iou = iou_of_counts(correct, true, predicted)
        return {
            "miou": iou.nanmean().item(),
            "fwiou": (iou.nan_to_num() * true / true.sum()).sum().item(),
            "pixel_accuracy": (correct.sum() / true.sum()).item(),
            "mean_accuracy": accuracy.nanmean().item(),
            "per_class": dict(enumerate(iou.tolist())),
        }

    def _count(
        self, prediction: Integer[Tensor, "_ _"], target: SegmentationTarget | Integer[Tensor, "_ _"]
    ) -> Int64[Tensor, "k k+1"]:
        if isinstance(target, SegmentationTarget):
            target = label_map(target, self.ignore_index)
        return confusion_matrix(prediction.to(target.device), target, self.num_labels, self.ignore_index).cpu()


def iou_of_counts(
    correct: Shaped[Tensor, " k"], true: Shaped[Tensor, " k"], predicted: Shaped[Tensor, " k"]
) -> Float64[Tensor, " k"]:
    """Return the IoU of each class, NaN where it does not occur, from its pixels: both, in truth, in prediction."""
    return torch.where(true > 0, correct.double() / (true + predicted - correct), torch.nan)


def label_map(target: SegmentationTarget, ignore_index: int) -> Int64[Tensor, "h w"]:
    """Return the true label of each pixel, `ignore_index` where it is void or of a crowd.

    Raises:
        ValueError: When masks overlap.
    """
    labels = target.labels.masked_fill(target.is_crowd, ignore_index)
    # The index of void, -1, is the last place.
    return torch.cat([labels, labels.new_tensor([ignore_index])])[segment_index_map(target)]


def _check_ignore_index(num_labels: int, ignore_index: int) -> None:
    if 0 <= ignore_index < num_labels:
        raise ValueError(
            f"ignore_index {ignore_index} is one of the {num_labels} labels; choose a value that is none, such as -1."
        )


def check_maps(prediction: Tensor, target: Tensor) -> None:
    """Raise a ValueError unless both are maps of integers of one size."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have the same size, got {tuple(prediction.shape)} and {tuple(target.shape)}; "
            "resize the prediction to the size of the target (target_sizes)."
        )
    for name, labels in (("prediction", prediction), ("target", target)):
        if labels.ndim != 2 or labels.is_floating_point():
            raise ValueError(
                f"{name} must be a (height, width) map of integer labels, got {tuple(labels.shape)} of {labels.dtype}."
            )


def _check_range(name: str, labels: Int64[Tensor, " s"], num_labels: int, ignore_index: int) -> None:
    wrong = labels[(labels < 0) | (labels >= num_labels)]
    if len(wrong) > 0:
        raise ValueError(
            f"{name} has the value {int(wrong[0])}, which is neither a label from 0 to {num_labels - 1} nor the "
            f"ignore_index {ignore_index}."
        )
