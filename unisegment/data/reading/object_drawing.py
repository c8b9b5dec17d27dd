# SPDX-License-Identifier: Apache-2.0
"""Objects that may overlap in, the smallest target that holds them out."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Int64, Integer

from unisegment.structures import SegmentationTarget
from unisegment.types import Size

_WIDER_FROM = {2**8: np.int16, 2**15: np.int32}
"""Numbers of objects that the type so far cannot hold, and the next type."""


def draw_objects(objects: Iterable[tuple[int, bool, Int64[np.ndarray, " p"]]], size: Size) -> SegmentationTarget:
    """Return the target with one id map if no objects overlap, and with several layers if some do.

    Each object goes into the first layer where it touches none: there are as many layers as objects lie on one another,
    not as there are objects, and time and memory grow with what is drawn.

    Args:
        objects: Label, whether it is a crowd, and pixels of each object, as places in the image read row by row. An
            object without pixels is left out.
        size: Height and width of the image.
    """
    maps: list[Integer[np.ndarray, "h w"]] = [np.zeros(size, dtype=np.uint8)]
    labels: list[int] = []
    is_crowd: list[bool] = []
    layers: list[int] = []
    for label, crowd, pixels in objects:
        if len(pixels) == 0:
            continue
        labels.append(label)
        is_crowd.append(crowd)
        if len(labels) in _WIDER_FROM:
            maps = [id_map.astype(_WIDER_FROM[len(labels)]) for id_map in maps]
        layer = next((layer for layer, id_map in enumerate(maps) if not id_map.ravel()[pixels].any()), len(maps))
        if layer == len(maps):
            maps.append(np.zeros(size, dtype=maps[0].dtype))
        maps[layer].ravel()[pixels] = len(labels)
        layers.append(layer)
    return SegmentationTarget(
        labels=torch.tensor(labels, dtype=torch.int64),
        id_map=torch.from_numpy(maps[0] if len(maps) == 1 else np.stack(maps)),
        segment_ids=torch.arange(1, len(labels) + 1),
        is_crowd=torch.tensor(is_crowd, dtype=torch.bool),
        layers=None if len(maps) == 1 else torch.tensor(layers),
    )
