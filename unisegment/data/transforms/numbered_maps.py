# SPDX-License-Identifier: Apache-2.0
"""A target in any of its forms in, its segments in numbered maps out, which those of other targets can be added to."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64

from unisegment.ops.masks import segment_index_maps
from unisegment.structures import SegmentationTarget


class NumberedMaps(NamedTuple):
    """Segments in one map, or, where some overlap, in several of which each holds none that overlap.

    Args:
        maps: Number of the segment at each pixel, its place in the lists plus 1; 0 is void.
        labels: Class of each segment.
        is_crowd: Whether it is a crowd.
        layers: Which map it is in.
    """

    maps: Int32[np.ndarray, "l h w"]
    labels: Int64[np.ndarray, " n"]
    is_crowd: Bool[np.ndarray, " n"]
    layers: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, target: SegmentationTarget) -> "NumberedMaps":
        """Return the segments of a target, in their order."""
        if target.masks is not None:
            maps, layers = _packed(target.masks.numpy())
        else:
            maps = [index_map.numpy().astype(np.int32) + 1 for index_map in segment_index_maps(target)]
            layers = np.zeros(len(target), dtype=np.int64) if target.layers is None else target.layers.numpy()
        return cls(np.stack(maps), target.labels.numpy(), target.is_crowd.numpy(), layers)

    def areas(self) -> Int64[np.ndarray, " n"]:
        """Return the pixels of each segment."""
        return np.bincount(self.maps.ravel(), minlength=len(self.labels) + 1)[1:]

    def target(self, is_kept: Bool[np.ndarray, " n"]) -> SegmentationTarget:
        """Return some of the segments as a target, in their order."""
        one_map = len(self.maps) == 1
        return SegmentationTarget(
            labels=torch.from_numpy(self.labels),
            id_map=torch.from_numpy(self.maps[0] if one_map else self.maps),
            segment_ids=torch.arange(1, len(self.labels) + 1),
            is_crowd=torch.from_numpy(self.is_crowd),
            layers=None if one_map else torch.from_numpy(self.layers),
        ).select(torch.from_numpy(is_kept))


def _packed(masks: Bool[np.ndarray, "n h w"]) -> tuple[list[Int32[np.ndarray, "h w"]], Int64[np.ndarray, " n"]]:
    """Return masks in as few maps as their order allows, and the map of each."""
    maps = [np.zeros(masks.shape[1:], dtype=np.int32)]
    layers = []
    for number, mask in enumerate(masks, 1):
        layer = next((layer for layer, found in enumerate(maps) if not found[mask].any()), len(maps))
        if layer == len(maps):
            maps.append(np.zeros(masks.shape[1:], dtype=np.int32))
        maps[layer][mask] = number
        layers.append(layer)
    return maps, np.array(layers, dtype=np.int64)
