# SPDX-License-Identifier: Apache-2.0
"""A target in any of its forms in, its segments in numbered maps out, which those of other targets can be added to."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64, Integer

from unisegment.ops.masks import pixel_runs, segment_areas
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
        layers = np.zeros(len(target), dtype=np.int64) if target.layers is None else target.layers.numpy()
        if target.masks is not None:
            maps, layers = _packed(target.masks.numpy())
        else:
            assert target.id_map is not None
            assert target.segment_ids is not None
            maps = _numbered(target.id_map.numpy().reshape(-1, *target.size), target.segment_ids.numpy())
        return cls(maps, target.labels.numpy(), target.is_crowd.numpy(), layers)

    def target(self, may_be_empty: Bool[np.ndarray, " n"]) -> SegmentationTarget:
        """Return the segments as a target, in their order, without those that have no pixel unless they may."""
        one_map = len(self.maps) == 1
        target = SegmentationTarget(
            labels=torch.from_numpy(self.labels),
            id_map=torch.from_numpy(self.maps[0] if one_map else self.maps),
            segment_ids=torch.arange(1, len(self.labels) + 1),
            is_crowd=torch.from_numpy(self.is_crowd),
            layers=None if one_map else torch.from_numpy(self.layers),
        )
        return target.select((segment_areas(target) > 0) | torch.from_numpy(may_be_empty))


def _numbered(id_maps: Integer[np.ndarray, "l h w"], ids: Int64[np.ndarray, " n"]) -> Int32[np.ndarray, "l h w"]:
    """Return maps in which each id is its place among all plus 1, and every other number 0."""
    values, lengths = pixel_runs(id_maps.ravel())
    order = np.append(ids.argsort(), -1)  # the last for what is above all ids
    places = order[np.searchsorted(ids, values, sorter=order[:-1])]
    numbers = np.where(np.append(ids, 0)[places] == values, places + 1, 0)
    return numbers.astype(np.int32).repeat(lengths).reshape(id_maps.shape)


def _packed(masks: Bool[np.ndarray, "n h w"]) -> tuple[Int32[np.ndarray, "l h w"], Int64[np.ndarray, " n"]]:
    """Return masks in as few maps as their order allows, and the map of each."""
    maps = [np.zeros(masks.shape[1:], dtype=np.int32)]
    layers = []
    for number, mask in enumerate(masks, 1):
        layer = next((layer for layer, found in enumerate(maps) if not found[mask].any()), len(maps))
        if layer == len(maps):
            maps.append(np.zeros(masks.shape[1:], dtype=np.int32))
        maps[layer][mask] = number
        layers.append(layer)
    return np.stack(maps), np.array(layers, dtype=np.int64)
