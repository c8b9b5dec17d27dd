# SPDX-License-Identifier: Apache-2.0
"""Four annotated images in, one with a part of each around a random centre out.

Source:
    YOLOv4 (arXiv 2004.10934), section 3.4; its code, darknet, keeps the centre a fifth of each side away from the
    border.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from unisegment.data.transforms.numbered_maps import NumberedMaps
from unisegment.structures import Sample
from unisegment.types import Size

_SHORTEST_SHARE = 0.2
"""Of a side of the mosaic that a part takes at least."""


def quarters(size: Size, generator: np.random.Generator) -> list[Size]:
    """Return the sizes of the four parts around a random centre: top left, top right, bottom left, bottom right.

    Args:
        size: Height and width of the mosaic, both above 1.
        generator: Where the centre comes from: its row, then its column.
    """
    shortest = [max(round(side * _SHORTEST_SHARE), 1) for side in size]
    row, column = (
        int(generator.integers(least, side - least, endpoint=True)) for side, least in zip(size, shortest, strict=True)
    )
    return [(height, width) for height in (row, size[0] - row) for width in (column, size[1] - column)]


def mosaic(parts: Sequence[Sample], region_labels: Collection[int]) -> Sample:
    """Lay four images together: top left, top right, bottom left, bottom right.

    Segments without a pixel are left out. The parts of a region, such as the sky of several images, are one segment.

    Args:
        parts: The images; those side by side have the same height, those above each other the same width.
        region_labels: Labels of which an image has one segment at most: stuff, and in semantic data all.
    """
    targets = [NumberedMaps.of(part.target) for part in parts]
    first = np.cumsum([0, *(len(target.labels) for target in targets)])
    num_layers = max(len(target.maps) for target in targets)
    # Numbers that follow on, in as many layers as the part with the most has.
    maps = [
        np.pad(np.where(target.maps > 0, target.maps + start, 0), ((0, num_layers - len(target.maps)), (0, 0), (0, 0)))
        for target, start in zip(targets, first.tolist(), strict=False)
    ]
    joined = NumberedMaps(
        _laid(maps, axis=1), *map(np.concatenate, zip(*(target[1:] for target in targets), strict=True))
    )
    joined = _merge_regions(joined, np.isin(joined.labels, [*region_labels]) & ~joined.is_crowd)
    return replace(
        parts[0],
        image=_laid([part.image for part in parts], axis=0),
        target=joined.target(np.zeros_like(joined.is_crowd)),
        file_name=" + ".join(part.file_name for part in parts),
    )


def _laid(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Return four parts as one; `axis` is that of the rows."""
    return np.concatenate([np.concatenate(parts[row : row + 2], axis=axis + 1) for row in (0, 2)], axis=axis)


def _merge_regions(joined: NumberedMaps, is_region: Bool[np.ndarray, " n"]) -> NumberedMaps:
    """Give the pixels of regions of one label, and one layer, the number of the first of them."""
    keys = np.stack([joined.labels, joined.layers], axis=1)[is_region]
    places = np.flatnonzero(is_region)
    _, firsts, groups = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    numbers = np.arange(len(joined.labels) + 1, dtype=np.int32)
    numbers[places + 1] = places[firsts[groups.ravel()]] + 1
    return joined._replace(maps=numbers[joined.maps])
