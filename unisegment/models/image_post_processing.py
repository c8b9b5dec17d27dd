# SPDX-License-Identifier: Apache-2.0
"""The model's output in, predictions with the names of their labels out.

Keywords and results are those of transformers' Mask2Former image processor; docs/transformers.md lists the differences.
Axes: see `unisegment.types`.
"""

import logging
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, ClassVar, TypeAlias, TypeVar

import torch
from jaxtyping import Float32, Int
from torch import Tensor

from unisegment.models.image_sizes import sizes_of_results
from unisegment.ops.rle import encode_rle
from unisegment.ops.transfers import fetch
from unisegment.postprocessing import instance_predictions, panoptic_predictions, semantic_predictions
from unisegment.postprocessing.resize import frames_of_batch
from unisegment.postprocessing.semantic import ClassScores, class_scores
from unisegment.structures import InstancePrediction, PanopticPrediction, SemanticPrediction
from unisegment.types import Size

TargetSizes: TypeAlias = Int[Tensor, "b 2"] | Sequence[Any] | None
"""Height and width of each result, or the images themselves, in any form that a processor takes."""

_OPEN_BESIDE = "Open the processor with id2label=model.config.id2label"

_Prediction = TypeVar("_Prediction", SemanticPrediction, InstancePrediction, PanopticPrediction)


class ImagePostProcessing:
    """The part of an image processor that reads the model's output."""

    stuff_label_ids: list[int] | None
    """Labels of which panoptic results have at most one segment; None means unknown."""
    id2label: dict[int, str] | None
    """Name of each label; None means unknown."""
    image_mean: list[float]
    """One number for each channel of an image."""
    mask_stride: int
    """Pixels of the canvas for one cell of the mask grid."""
    read_outputs: ClassVar[tuple[str, ...]] = ("class_queries_logits", "masks_queries_logits", "image_sizes")
    """What is read of the model's output; each has one entry for each row of `pixel_values`."""

    def why_not(self, task: str) -> str | None:
        """Return why results of a task cannot be read from the model's output, and how they can; None where they can.

        Args:
            task: "panoptic", "instance" or "semantic".
        """
        return None

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: TargetSizes = None,
        return_segmentation_scores: bool = False,
        max_elements: int | None = None,
    ) -> list[SemanticPrediction]:
        """Give every pixel a label; see `unisegment.postprocessing.semantic_predictions`.

        Args:
            outputs: What the model returned: `class_queries_logits`, `masks_queries_logits` and, where images do not
                fill the canvas, `image_sizes`.
            target_sizes: Height and width of each result, usually of the original images: numbers, or the images
                themselves as they were prepared, which are upright. None means the sizes that the model saw.
            return_segmentation_scores: Keep the scores of all classes.
            max_elements: Numbers to hold at a time, which bounds the memory; the result does not depend on it. None
                takes what suits the device: 2^22 on a CPU, 2^27 (half a gigabyte) on a GPU.
        """
        predictions = semantic_predictions(
            *self._logits_and_sizes(outputs, target_sizes),
            mask_stride=self.mask_stride,
            return_segmentation_scores=return_segmentation_scores,
            max_elements=max_elements,
        )
        return self.named(predictions, _num_labels(outputs))

    @torch.no_grad()
    def semantic_scores(
        self, outputs: Any, index: int, target_size: Size, rows: slice
    ) -> Float32[Tensor, "k _ w_target"]:
        """Return the scores of all classes by which `post_process_semantic_segmentation` labels, for some rows.

        Args:
            outputs: As there.
            index: Place of the image in `outputs`, of its first row where it was prepared as several.
            target_size: Height and width of the result.
            rows: Which rows of it.
        """
        return self._class_scores(outputs, index, target_size).of_rows(rows)

    def semantic_row_elements(self, outputs: Any, target_size: Size) -> int:
        """Return how many numbers `semantic_scores` holds at a time for each row, to bound the memory by.

        Args:
            outputs: As for `semantic_scores`.
            target_size: As there.
        """
        return self._class_scores(outputs, 0, target_size).row_elements

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float | None = None,
        target_sizes: TargetSizes = None,
        return_coco_annotation: bool = False,
        return_binary_maps: bool = False,
        top_k: int = 100,
        max_elements: int | None = None,
        label_ids: Collection[int] | None = None,
    ) -> list[InstancePrediction] | list[dict[str, Any]]:
        """Find objects, the best first; see `unisegment.postprocessing.instance_predictions`.

        Args:
            outputs: As for `post_process_semantic_segmentation`.
            threshold: Score that an object must exceed; 0.0 for evaluation, and 1.0 finds nothing.
            mask_threshold: Mask probability that a pixel must exceed.
            overlap_mask_area_threshold: Visible share that an object must have; None keeps all.
            target_sizes: As for `post_process_semantic_segmentation`.
            return_coco_annotation: Return a dict an image, with COCO's run lengths of each object in `segmentation`.
            return_binary_maps: Return a dict an image, with the masks (n h w) in `segmentation`; without an object a
                map (h w) of -1. Ids of both kinds of dicts are places in `segmentation`, from 0.
            top_k: Pairs of a query and a class that are looked at, and so the most objects of an image.
            max_elements: As for `post_process_semantic_segmentation`.
            label_ids: Labels that may be objects, of a model that also knows stuff; None means all.

        Raises:
            ValueError: When both forms are asked for, or `why_not` says why there are no such results.
        """
        self._require("instance")
        if return_coco_annotation and return_binary_maps:
            raise ValueError("Ask for return_coco_annotation or return_binary_maps, not for both.")
        predictions = self.named(
            instance_predictions(
                *self._logits_and_sizes(outputs, target_sizes),
                mask_stride=self.mask_stride,
                threshold=threshold,
                mask_threshold=mask_threshold,
                overlap_mask_area_threshold=overlap_mask_area_threshold,
                top_k=top_k,
                label_ids=label_ids,
                max_elements=max_elements,
            ),
            _num_labels(outputs),
        )
        if not return_coco_annotation and not return_binary_maps:
            return predictions
        return [
            {
                "segmentation": encode_rle(prediction.masks) if return_coco_annotation else _binary_maps(prediction),
                "segments_info": [info | {"id": place} for place, info in enumerate(prediction.segments_info)],
            }
            for prediction in predictions
        ]

    def post_process_panoptic_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.8,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        label_ids_to_fuse: Collection[int] | None = None,
        target_sizes: TargetSizes = None,
        max_elements: int | None = None,
    ) -> list[PanopticPrediction]:
        """Give every pixel to one segment or to none; see `unisegment.postprocessing.panoptic_predictions`.

        Args:
            outputs: As for `post_process_semantic_segmentation`.
            threshold: Class probability that a query must exceed.
            mask_threshold: Mask probability that a pixel must reach.
            overlap_mask_area_threshold: Share of its mask that a query must keep.
            label_ids_to_fuse: Labels of stuff; None means `stuff_label_ids`.
            target_sizes: As for `post_process_semantic_segmentation`.
            max_elements: As for `post_process_semantic_segmentation`.

        Raises:
            ValueError: When `stuff_label_ids` would be used and are those of a model with other labels, or `why_not`
                says why there are no such results.
        """
        self._require("panoptic")
        predictions = panoptic_predictions(
            *self._logits_and_sizes(outputs, target_sizes),
            mask_stride=self.mask_stride,
            threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_mask_area_threshold=overlap_mask_area_threshold,
            label_ids_to_fuse=self._stuff_of(outputs) if label_ids_to_fuse is None else label_ids_to_fuse,
            max_elements=max_elements,
        )
        return self.named(predictions, _num_labels(outputs))

    def _require(self, task: str) -> None:
        reason = self.why_not(task)
        if reason is not None:
            raise ValueError(reason)

    def _logits_and_sizes(self, outputs: Any, target_sizes: TargetSizes) -> tuple[Any, ...]:
        return (
            outputs.class_queries_logits,
            outputs.masks_queries_logits,
            getattr(outputs, "image_sizes", None),
            sizes_of_results(target_sizes, len(self.image_mean)),
        )

    def _class_scores(self, outputs: Any, index: int, target_size: Size) -> ClassScores:
        """Return the scores of an image, whose first row of the output is `index`, at a size."""
        logits = [outputs.class_queries_logits, outputs.masks_queries_logits]
        class_logits, mask_logits = (part[index : index + 1] for part in logits)
        (image_sizes,) = fetch(getattr(outputs, "image_sizes", None))
        own_size = None if image_sizes is None else image_sizes[index : index + 1]
        (frame,) = frames_of_batch(class_logits, mask_logits, own_size, [target_size], self.mask_stride)
        return class_scores(class_logits[0], mask_logits[0], frame)

    def _stuff_of(self, outputs: Any) -> Collection[int]:
        """Return the labels that are stuff, none when that is unknown; refuse those of a model with other labels."""
        if self.stuff_label_ids is None:
            _say_once("It is not known which labels are stuff: set stuff_label_ids. All are taken for things.")
        stuff, count = self.stuff_label_ids or (), _num_labels(outputs)
        if stuff and (max(stuff) >= count or self._has_other_names(count)):
            raise ValueError(
                f"stuff_label_ids of the image processor are not those of a model with {count} labels: they do not "
                f"belong together. {_OPEN_BESIDE}, and with stuff_label_ids=[…] where names do not tell what is stuff."
            )
        return stuff

    def _has_other_names(self, num_labels: int) -> bool:
        return self.id2label is not None and len(self.id2label) != num_labels

    def named(self, predictions: list[_Prediction], num_labels: int) -> list[_Prediction]:
        """Write the name of its label, or the number where names are not known, into each segment.

        Args:
            predictions: Are changed and returned.
            num_labels: Number of labels of the model.
        """
        names = self.id2label or {}
        if self._has_other_names(num_labels):
            _say_once(
                f"The image processor has names of {len(names)} labels, but the model has {num_labels}: labels are "
                f"given by their numbers. {_OPEN_BESIDE}."
            )
            names = {}
        for prediction in predictions:
            prediction.segments_info[:] = [
                {
                    "id": info["id"],
                    "label_id": info["label_id"],
                    "label": names.get(info["label_id"], str(info["label_id"])),
                    **info,
                }
                for info in prediction.segments_info
            ]
        return predictions


def _num_labels(outputs: Any) -> int:
    return outputs.class_queries_logits.shape[-1] - 1


def _binary_maps(prediction: InstancePrediction) -> Tensor:
    # An empty result has the shape that those who read transformers' results expect.
    return prediction.masks if len(prediction.masks) else prediction.segmentation - 1


@cache
def _say_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)
