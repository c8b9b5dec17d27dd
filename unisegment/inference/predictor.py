# SPDX-License-Identifier: Apache-2.0
"""A model and prepared images in; semantic, instance and panoptic predictions at the images' original size out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from unisegment.data.export.categories import categories_of_labels
from unisegment.inference.images import Batch
from unisegment.ops.transfers import send
from unisegment.postprocessing import instance_predictions
from unisegment.postprocessing.resize import check_share
from unisegment.structures import Category, InstancePrediction, PanopticPrediction
from unisegment.types import Size


@dataclass(frozen=True)
class Predictor:
    """Our model with our post-processing. One forward pass of an image serves all three tasks.

    Args:
        model: The bare model, not wrapped for training.
        processor: Prepares images and reads the model's output; it knows which labels are stuff.
        panoptic_threshold: Smallest score of a panoptic segment.
        top_k: Most objects of an image; see `unisegment.postprocessing.instance_predictions`.

    Raises:
        ValueError: When the threshold is not from 0 to 1, or `top_k` less than 1.
    """

    model: Any
    processor: Any
    panoptic_threshold: float = 0.8
    top_k: int = 100

    def __post_init__(self) -> None:
        check_share("panoptic_threshold", self.panoptic_threshold)
        if self.top_k < 1:
            raise ValueError(f"top_k must be 1 or more, got {self.top_k}.")

    @property
    def id2label(self) -> Mapping[int, str]:
        """Name of each label."""
        return self.model.config.id2label

    @property
    def num_labels(self) -> int:
        """Number of labels."""
        return self.model.config.num_labels

    @property
    def num_queries(self) -> int:
        """Number of queries."""
        return self.model.config.num_queries

    @property
    def categories(self) -> list[Category]:
        """The category of each label, with the id that it has in files."""
        return categories_of_labels(self.id2label, self.stuff_label_ids, self.model.config.categories)

    @property
    def stuff_label_ids(self) -> frozenset[int]:
        """The labels that are stuff."""
        return frozenset(self.processor.stuff_label_ids or ())

    @property
    def thing_label_ids(self) -> frozenset[int]:
        """The labels that are not."""
        return frozenset(range(self.num_labels)) - self.stuff_label_ids

    @property
    def task(self) -> str:
        """What the labels are made for: "semantic" without things, "instance" without stuff, otherwise "panoptic"."""
        if not self.thing_label_ids:
            return "semantic"
        return "panoptic" if self.stuff_label_ids else "instance"

    def forward(self, batch: Batch) -> Any:
        """Return the model's output, computed in the dtype of its weights."""
        return _forward(self.model, batch)

    def panoptic(self, batch: Batch, outputs: Any) -> list[PanopticPrediction]:
        """Return which segment each pixel belongs to.

        Args:
            batch: Images of equal padded size.
            outputs: What `forward` made of them.
        """
        return self.processor.post_process_panoptic_segmentation(
            outputs, threshold=self.panoptic_threshold, target_sizes=original_sizes(batch)
        )

    def instance(self, batch: Batch, outputs: Any, threshold: float = 0.0) -> list[InstancePrediction]:
        """Return the objects above a score: those that are no stuff among the `top_k` best of all."""
        return instance_predictions(
            outputs.class_queries_logits,
            outputs.masks_queries_logits,
            outputs.image_sizes,
            original_sizes(batch),
            threshold=threshold,
            top_k=self.top_k,
            label_ids=self.thing_label_ids,
        )

    def semantic(self, batch: Batch, outputs: Any) -> list[Any]:
        """Return the label of each pixel."""
        return self.processor.post_process_semantic_segmentation(outputs, target_sizes=original_sizes(batch))


def original_sizes(batch: Batch) -> list[Size]:
    """Return height and width of each image as it was before it was prepared."""
    return [(item.sample.image.shape[0], item.sample.image.shape[1]) for item in batch]


def _forward(model: Any, batch: Batch) -> Any:
    was_training = model.training
    model.eval()
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        outputs = model(
            pixel_values=send(torch.cat([item.pixel_values for item in batch]), model.device),
            pixel_mask=send(torch.cat([item.pixel_mask for item in batch]), model.device),
        )
    model.train(was_training)
    return outputs
