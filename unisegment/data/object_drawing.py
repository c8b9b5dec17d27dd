# SPDX-License-Identifier: Apache-2.0
"""Objects that may overlap in, the smallest target that holds them out."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Int64

from unisegment.structures import SegmentationTarget
from unisegment.types import Size


def draw_objects(objects: Iterable[tuple[int, bool, Int64[np.ndarray, " p"]]], size: Size) -> SegmentationTarget:
    """Return the target with an id map if no objects overlap, and with masks if some do.

    Args:
        objects: Label, whether it is a crowd, and pixels of each object, as places in the image read row by row. An
            object without pixels is left out.
        size: Height and width of the image.
    """
    id_map = np.zeros(size, dtype=np.int32)
    masks: list[Bool[np.ndarray, "h w"]] = []
    labels: list[int] = []
    is_crowd: list[bool] = []
    for label, crowd, pixels in objects:
        if len(pixels) == 0:
            continue
        if not masks and id_map.ravel()[pixels].any():
            masks = [id_map == number for number in range(1, len(labels) + 1)]
        labels.append(label)
        is_crowd.append(crowd)
        if masks:
            masks.append(np.zeros(size, dtype=np.bool_))
        (masks[-1] if masks else id_map).ravel()[pixels] = len(labels)
    segments = {"labels": torch.tensor(labels, dtype=torch.int64), "is_crowd": torch.tensor(is_crowd, dtype=torch.bool)}
    if masks:
        return SegmentationTarget(masks=torch.from_numpy(np.stack(masks)), **segments)
    return SegmentationTarget(id_map=torch.from_numpy(id_map), segment_ids=torch.arange(1, len(labels) + 1), **segments)
