# SPDX-License-Identifier: Apache-2.0
"""Mosaics against an obvious version, pixel by pixel; sizes are different primes."""

import numpy as np
import pytest
import torch

from tests.data.transforms.scenes import STUFF, assert_segments, draw_scene, segments_of
from unisegment.data.transforms.mosaic import mosaic, quarters


def test_the_centre_is_anywhere_but_near_the_border():
    found = [quarters((31, 53), np.random.default_rng(seed)) for seed in range(600)]
    for (top, left), (_, right), (bottom, _), last in found:
        assert (top + bottom, left + right) == (31, 53)
        assert last == (bottom, right)
    # A fifth of 31 is 6.2, of 53 is 10.6.
    assert {top for (top, _), *_ in found} == {*range(6, 26)}
    assert {left for (_, left), *_ in found} == {*range(11, 43)}


@pytest.mark.parametrize(("size", "expected"), [((2, 2), {(1, 1)}), ((3, 2), {(1, 1), (2, 1)})])
def test_every_part_has_a_pixel(size, expected):
    assert {quarters(size, np.random.default_rng(seed))[0] for seed in range(30)} == expected


def naive(parts, region_labels):
    """Return the image and the segments that the definition says."""
    top, left = parts[0].image.shape[:2]
    height, width = top + parts[2].image.shape[0], left + parts[1].image.shape[1]
    image, segments = np.zeros((height, width, 3), np.uint8), []
    for place, part in enumerate(parts):
        first_row, first_column = top * (place // 2), left * (place % 2)
        for row, column in np.ndindex(part.image.shape[:2]):
            image[first_row + row, first_column + column] = part.image[row, column]
        for label, crowd, mask in segments_of(part.target):
            whole = np.zeros((height, width), bool)
            whole[first_row : first_row + mask.shape[0], first_column : first_column + mask.shape[1]] = mask
            same = [item for item in segments if item[0] == label and not item[1]]
            if label in region_labels and not crowd and same:
                same[0][2][whole] = True
            else:
                segments.append((label, crowd, whole))
    return image, [item for item in segments if item[2].any()]


def parts_of(seed, forms, sizes=((5, 11), (5, 7), (13, 11), (13, 7)), nums=(7, 4, 0, 9)):
    return [
        draw_scene(*size, seed + place, form, num, f"{place}.jpg")
        for place, (size, form, num) in enumerate(zip(sizes, forms, nums, strict=True))
    ]


@pytest.mark.parametrize("forms", [["id_map"] * 4, ["layers", "masks", "id_map", "layers"], ["masks"] * 4])
def test_four_images_are_laid_together(forms):
    for seed in range(0, 40, 4):
        parts = parts_of(seed, forms)
        image, segments = naive(parts, STUFF if forms == ["id_map"] * 4 else ())
        result = mosaic(parts, STUFF if forms == ["id_map"] * 4 else ())
        np.testing.assert_array_equal(result.image, image)
        assert_segments(result.target, segments)
        assert (result.image_id, result.file_name) == (seed, "0.jpg + 1.jpg + 2.jpg + 3.jpg")
        assert not result.target.binary_masks().sum((1, 2)).eq(0).any()


def test_a_region_is_one_segment_and_objects_are_many():
    parts = parts_of(0, ["id_map"] * 4, nums=(7, 7, 7, 7))
    sky = [part.target.binary_masks()[part.target.labels == STUFF[0]].any() for part in parts]
    assert sum(map(bool, sky)) > 1
    result = mosaic(parts, STUFF).target
    assert result.labels.tolist().count(STUFF[0]) == 1
    assert len(mosaic(parts, ()).target) > len(result) > 9
    assert mosaic(parts, ()).target.layers is None


def test_regions_that_overlap_stay_apart():
    """A segment is in one layer only, and what overlaps is in several."""
    parts = parts_of(3, ["layers"] * 4, nums=(9, 9, 9, 9))
    result = mosaic(parts, range(6))
    everything = mosaic(parts, ())
    for label in range(6):
        found, expected = (
            item.target.binary_masks()[(item.target.labels == label) & ~item.target.is_crowd].any(0)
            for item in (result, everything)
        )
        assert torch.equal(found, expected)
    assert torch.equal(result.target.is_crowd.sum(), everything.target.is_crowd.sum())


def test_four_images_without_segments_are_one():
    result = mosaic(parts_of(0, ["id_map"] * 4, nums=(0, 0, 0, 0)), STUFF)
    assert len(result.target) == 0
    assert result.target.size == (18, 18)
