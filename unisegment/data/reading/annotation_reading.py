# SPDX-License-Identifier: Apache-2.0
"""Annotations in the forms that users of transformers have them in, targets out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32

from unisegment.data.reading.image_reading import exif_hint, to_numpy
from unisegment.structures import SegmentationTarget
from unisegment.types import Size


def read_segment_map(segment_map: Any) -> Int32[np.ndarray, "h w"]:
    """Return the number that each pixel of a segment map holds: of a palette image, the place in the palette.

    Args:
        segment_map: A Pillow image with one channel, or a numpy array or torch tensor (h w), (1 h w) or (h w 1) of
            whole numbers of any type.

    Raises:
        ValueError: When it is empty, cannot be read, has several channels or other than whole numbers.
    """
    array = to_numpy(segment_map)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"A segmentation map must be (height, width) and not empty, got shape {array.shape}. Turn colours into "
            "numbers first, with unisegment.ops.masks.rgb_to_ids for panoptic PNG files."
        )
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise ValueError("A segmentation map must hold whole numbers, got fractions.")
    if not -(2**31) <= array.min() <= array.max() < 2**31:
        raise ValueError(f"A segmentation map must hold numbers of 32 bits, got {array.min()} to {array.max()}.")
    return array.astype(np.int32)


def target_from_map(
    segment_map: Any,
    label_of_id: Mapping[int, int] | None = None,
    *,
    ignore_index: int | None = None,
    do_reduce_labels: bool = False,
) -> SegmentationTarget:
    """Return the segments of a map, in ascending order of their numbers.

    Args:
        segment_map: As for `read_segment_map`.
        label_of_id: Label of each number in the map; None means that the numbers are the labels.
        ignore_index: Number of pixels that belong to no segment.
        do_reduce_labels: Number 0 and label 0 mean no segment, and every other label becomes one less.

    Raises:
        ValueError: When the map cannot be read or `label_of_id` lacks a number.
    """
    id_map = torch.from_numpy(read_segment_map(segment_map))
    no_segment = {ignore_index, 0 if do_reduce_labels else None}
    ids = [number for number in id_map.unique().tolist() if number not in no_segment]
    missing = [] if label_of_id is None else [number for number in ids if number not in label_of_id]
    if missing:
        raise ValueError(f"instance_id_to_semantic_id has no label for the numbers {missing} of the segmentation map.")
    labels = {number: number if label_of_id is None else int(label_of_id[number]) for number in ids}
    if do_reduce_labels:
        labels = {number: label - 1 for number, label in labels.items() if label != 0}
    return SegmentationTarget(
        labels=torch.tensor(list(labels.values()), dtype=torch.int64),
        id_map=id_map,
        segment_ids=torch.tensor(list(labels), dtype=torch.int64),
    )


def check_target(target: SegmentationTarget, image_size: Size, num_labels: int | None) -> None:
    """Raise a ValueError unless a target has the size of its image and labels that the model knows.

    Args:
        target: The target.
        image_size: Height and width of the image.
        num_labels: Number of labels; None means unknown.
    """
    if target.size != image_size:
        raise ValueError(
            f"the image is {image_size[0]}x{image_size[1]} (height x width), but its annotation is "
            f"{target.size[0]}x{target.size[1]}; both must have the same size.{exif_hint(target.size, image_size)}"
        )
    labels: Sequence[int] = target.labels.unique().tolist()
    wrong = [label for label in labels if label < 0 or (num_labels is not None and label >= num_labels)]
    if wrong:
        wanted = "0 or more" if num_labels is None else f"from 0 to {num_labels - 1}, as num_labels is {num_labels}"
        raise ValueError(
            f"the annotation has the labels {wrong}, but labels are {wanted}. For pixels of no segment see "
            "ignore_index and do_reduce_labels."
        )


def without_vanished(target: SegmentationTarget) -> SegmentationTarget:
    """Return the target without the segments that have no pixel in its id map."""
    assert target.id_map is not None
    assert target.segment_ids is not None
    return target.select(torch.isin(target.segment_ids, target.id_map.unique()))
