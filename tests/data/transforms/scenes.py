# SPDX-License-Identifier: Apache-2.0
"""Images whose objects lie on one another, and their segments as one obvious mask for each."""

import numpy as np
import torch

from unisegment.data.reading.object_drawing import draw_objects
from unisegment.structures import Sample, SegmentationTarget

STUFF = (4, 5)
"""Labels of regions: an image has one segment of each at most."""


def draw_scene(height, width, seed, form="layers", num=7, name="a.jpg"):
    """Return an image of rectangles, of which one has no pixel, some overlap and some are crowds.

    As `layers` or `masks` they overlap; as `id_map` the first one is on top, and the last two are stuff.
    """
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = np.zeros((num, height, width), bool)
    for mask in masks:
        top, left = generator.integers((height, width))
        mask[top : top + generator.integers(1, height + 1), left : left + generator.integers(1, width + 1)] = True
    labels, crowds = generator.integers(0, 4, num), generator.random(num) < 0.2
    if form == "id_map":
        masks[1:] &= ~np.maximum.accumulate(masks)[:-1]
        labels[-2:], crowds[-2:] = STUFF[: min(num, 2)], False
    if num:
        masks[num // 2] = False
    return Sample(image, seed, name, target=_target(masks, labels, crowds, form))


def _target(masks, labels, crowds, form):
    segments = {"labels": torch.from_numpy(labels), "is_crowd": torch.from_numpy(crowds)}
    if form == "masks":
        return SegmentationTarget(masks=torch.from_numpy(masks), **segments)
    if form == "id_map":
        ids = torch.from_numpy(np.random.default_rng(0).choice(2**24 - 1, len(labels), replace=False) + 1)
        id_map = (torch.from_numpy(masks).to(torch.int64) * ids[:, None, None]).sum(0)
        return SegmentationTarget(id_map=id_map.to(torch.int32), segment_ids=ids, **segments)
    # Objects without a pixel are left out when they are drawn, so they are cleared afterwards.
    drawn = draw_objects(
        [
            (label, crowd, np.flatnonzero(mask) if mask.any() else np.zeros(1, int))
            for label, crowd, mask in zip(labels.tolist(), crowds.tolist(), masks, strict=True)
        ],
        masks.shape[1:],
    )
    maps = drawn.id_map.clone()
    for number, mask in enumerate(masks, 1):
        if not mask.any():
            maps[maps == number] = 0
    layers = drawn.layers
    return SegmentationTarget(id_map=maps, segment_ids=drawn.segment_ids, layers=layers, **segments)


def segments_of(target):
    """Return the label, the crowd flag and the mask of every segment."""
    masks = target.binary_masks().numpy()
    return list(zip(target.labels.tolist(), target.is_crowd.tolist(), masks, strict=True))


def assert_segments(target, expected):
    """Assert that a target has these segments, in this order."""
    found = segments_of(target)
    assert [item[:2] for item in found] == [item[:2] for item in expected]
    for (_, _, mask), (_, _, wanted) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask, wanted)
