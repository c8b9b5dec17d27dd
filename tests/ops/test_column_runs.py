# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from scipy.ndimage import center_of_mass

from unisegment.ops.column_runs import box_of_mask, extents, runs_of_mask, runs_of_segments
from unisegment.structures import SegmentationTarget

SIZE = (23, 37)


def target_of(seed, form):
    """Eight segments with holes and pieces; the sixth has no pixels."""
    generator = torch.Generator().manual_seed(seed)
    id_map = torch.randint(0, 5, SIZE, generator=generator)
    id_map[4:9, 11:30], id_map[12:, 3:9] = 6, 7
    by_ids = SegmentationTarget(labels=range(8), id_map=id_map, segment_ids=range(8))
    if form == "ids":
        return by_ids
    masks = by_ids.binary_masks()
    masks[3:5] |= masks[6]  # which overlaps
    return SegmentationTarget(labels=range(8), masks=masks)


@pytest.mark.parametrize("form", ["ids", "masks"])
def test_runs_are_the_pixels_column_by_column(form):
    target = target_of(1, form)
    for mask, runs in zip(target.binary_masks().numpy(), runs_of_segments(target), strict=True):
        pixels = [
            (column, row)
            for column, top, bottom in zip(*(numbers.tolist() for numbers in runs), strict=True)
            for row in range(top, bottom)
        ]
        assert pixels == [tuple(place) for place in np.argwhere(mask.T).tolist()]


def test_runs_end_at_the_end_of_a_column():
    runs = runs_of_mask(np.ones((3, 2), np.bool_))
    assert [numbers.tolist() for numbers in runs] == [[0, 1], [0, 0], [3, 3]]


@pytest.mark.parametrize("form", ["ids", "masks"])
def test_extents_are_those_of_pycocotools_and_scipy(form):
    target = target_of(2, form)
    masks = target.binary_masks().numpy()
    rles = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    areas, boxes, centroids = extents(target)
    np.testing.assert_array_equal(areas, coco_mask.area(rles))
    x, y, width, height = coco_mask.toBbox(rles).T
    np.testing.assert_array_equal(boxes, np.stack([x, y, x + width, y + height], axis=1))
    for mask, area, centroid in zip(masks, areas, centroids, strict=True):
        expected = np.array(center_of_mass(mask))[::-1] + 0.5 if area else np.nan
        np.testing.assert_allclose(centroid, expected, rtol=1e-12)


def test_no_segments_have_no_extents():
    nothing = SegmentationTarget(labels=[], id_map=torch.zeros(SIZE), segment_ids=[])
    assert [len(numbers) for numbers in extents(nothing)] == [0, 0, 0]
    assert list(runs_of_segments(nothing)) == []


def test_boxes_of_masks():
    mask = np.zeros(SIZE, np.bool_)
    assert box_of_mask(mask) == (slice(0, 0), slice(0, 0))
    mask[3, 7] = mask[22, 9] = True
    assert box_of_mask(mask) == (slice(3, 23), slice(7, 10))
