# SPDX-License-Identifier: Apache-2.0
"""Targets of a batch in, one piece of memory on the device out, in which one look-up finds any segment of any image.

Axes: l map, n segment of any image, g image, i chosen segment, p point.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Int, Integer
from torch import Tensor

from unisegment.ops.transfers import send, send_into
from unisegment.structures import SegmentationTarget


class SegmentMaps(NamedTuple):
    """All segments of the images of a batch, those of the first image first.

    Args:
        pixels: Maps of numbers, those of the first image first: one of each id map, layer, or mask (1 is inside).
        labels: Class of each segment.
        ids: Its number in its map.
        planes: Its map.
        counts: How many segments each image has.
        is_plain: Whether each image has one map.
    """

    pixels: Integer[Tensor, "l h w"]
    labels: Int[Tensor, " n"]
    ids: Int[Tensor, " n"]
    planes: Int[Tensor, " n"]
    counts: list[int]
    is_plain: bool

    @property
    def starts(self) -> list[int]:
        """Place of the first segment of each image, and of where the next image's would be."""
        return [0, *accumulate(self.counts)]

    def of_images(self, images: slice) -> Int[Tensor, "g i"]:
        """Return the places of the segments of some images, as many for each as one of them has.

        Behind the last segment of an image, rows go on with any segments.
        """
        starts, counts = self.starts, self.counts[images]
        firsts = send(torch.tensor(starts[:-1][images]), self.labels.device)
        places = torch.arange(max(counts), device=self.labels.device)
        return (firsts[:, None] + places).clamp_(max=max(starts[-1] - 1, 0))


def join_targets(targets: Sequence[SegmentationTarget], device: torch.device) -> SegmentMaps:
    """Send the targets of a batch to a device, and join them there.

    Nobody waits for these copies: keep `targets` until the device has been waited for. A single target that is on the
    device already is not copied.

    Args:
        targets: At least one; all of one size.
        device: Where they are needed.
    """
    grids = [_numbers(target) for target in targets]
    ends = list(accumulate(len(grid) for grid in grids))
    columns = [
        *(target.labels for target in targets),
        *(torch.ones_like(each.labels) if each.segment_ids is None else each.segment_ids for each in targets),
        *(_planes(target, end - len(grid)) for target, grid, end in zip(targets, grids, ends, strict=True)),
    ]
    if len({column.device for column in columns}) > 1:
        columns = [send(column, device) for column in columns]
    labels, ids, planes = send(torch.cat(columns), device).view(3, -1)
    if len(grids) == 1:
        pixels = send(grids[0], device)
    else:
        widest = max((grid.dtype for grid in grids), key=lambda dtype: torch.iinfo(dtype).max)
        pixels = torch.empty(ends[-1], *targets[0].size, dtype=widest, device=device)
        for place, grid in zip(pixels.split([len(grid) for grid in grids]), grids, strict=True):
            send_into(place, grid)
    is_plain = all(target.id_map is not None and target.layers is None for target in targets)
    return SegmentMaps(pixels, labels, ids, planes, [len(target) for target in targets], is_plain)


def _numbers(target: SegmentationTarget) -> Integer[Tensor, "l h w"]:
    """Return the maps of a target, of a mask one that is 1 inside; without a copy."""
    if target.masks is not None:
        return target.masks.view(torch.uint8)
    assert target.id_map is not None
    return target.id_map if target.layers is not None else target.id_map[None]


def _planes(target: SegmentationTarget, first: int) -> Int[Tensor, " n"]:
    """Return the map of each segment among those of the batch, of which `first` is this image's first."""
    if target.layers is not None:
        return target.layers + first
    if target.masks is not None:
        return torch.arange(first, first + len(target), device=target.labels.device)
    return torch.full_like(target.labels, first)
