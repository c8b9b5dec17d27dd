# SPDX-License-Identifier: Apache-2.0
"""Copy-paste against an obvious version that goes through masks one by one; sizes are different primes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.transforms.scenes import STUFF, assert_segments, draw_scene, segments_of
from unisegment.data.transforms.copy_paste import choose_objects, copy_paste
from unisegment.structures import SegmentationTarget


def naive(sample, other, is_pasted):
    """Return the image and the segments that the definition says."""
    height, width = sample.image.shape[:2]
    pasted = []
    for (label, crowd, mask), wanted in zip(segments_of(other.target), is_pasted, strict=True):
        canvas = np.zeros((height, width), bool)
        part = mask[:height, :width]
        canvas[: part.shape[0], : part.shape[1]] = part
        if wanted and canvas.any():
            pasted.append((label, crowd, canvas))
    image, segments = sample.image.copy(), []
    for row, column in np.ndindex(height, width):
        if any(mask[row, column] for _, _, mask in pasted):
            image[row, column] = other.image[row, column]
    for label, crowd, mask in segments_of(sample.target):
        rest = mask.copy()
        for _, _, above in pasted:
            rest &= ~above
        if rest.any() or not mask.any():
            segments.append((label, crowd, rest))
    return image, segments + pasted


@pytest.mark.parametrize(
    "forms", [("id_map", "id_map"), ("layers", "id_map"), ("id_map", "layers"), ("masks", "layers")]
)
@pytest.mark.parametrize("size", [(13, 19), (17, 11), (7, 29), (1, 1)])
def test_objects_lie_over_what_was_there(forms, size):
    for seed in range(6):
        sample, other = draw_scene(13, 19, seed, forms[0]), draw_scene(*size, seed + 50, forms[1], name="b.jpg")
        is_pasted = np.random.default_rng(seed).random(7) < 0.6
        image, segments = naive(sample, other, is_pasted)
        before = [sample.image.copy(), other.image.copy()]
        result = copy_paste(sample, other, is_pasted)
        np.testing.assert_array_equal(result.image, image)
        assert_segments(result.target, segments)
        assert result.image_id == seed
        np.testing.assert_array_equal([sample.image], before[:1])
        np.testing.assert_array_equal([other.image], before[1:])


def rectangles(size, *corners, labels=None, is_crowd=None):
    masks = torch.zeros(len(corners), *size, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return SegmentationTarget(labels=labels or [1] * len(corners), masks=masks, is_crowd=is_crowd)


def test_what_is_wholly_covered_is_left_out_and_areas_are_updated():
    sample, other = draw_scene(5, 7, 0), draw_scene(5, 7, 1, name="b.jpg")
    below = rectangles((5, 7), (0, 0, 2, 2), (0, 0, 3, 3), (4, 6, 5, 7), (2, 2, 2, 2), labels=[1, 2, 3, 0])
    above = rectangles((5, 7), (0, 0, 2, 3), (4, 0, 5, 1), labels=[9, 8])
    result = copy_paste(replace(sample, target=below), replace(other, target=above), np.array([True, False]))
    # Segments that had no pixel before stay, as they do without copy-paste.
    assert result.target.labels.tolist() == [2, 3, 0, 9]
    assert result.target.binary_masks().sum((1, 2)).tolist() == [3, 1, 0, 6]
    assert result.file_name == "a.jpg + b.jpg"


def test_an_object_as_large_as_the_image_is_all_there_is_left():
    sample, other = draw_scene(5, 7, 0, num=4), draw_scene(5, 7, 1)
    whole = replace(other, target=rectangles((5, 7), (0, 0, 5, 7), labels=[9]))
    sample = replace(sample, target=sample.target.select(sample.target.binary_masks().any((1, 2))))
    result = copy_paste(sample, whole, np.array([True]))
    np.testing.assert_array_equal(result.image, other.image)
    assert_segments(result.target, [(9, False, np.full((5, 7), True))])


@pytest.mark.parametrize("form", ["id_map", "layers", "masks"])
def test_where_nothing_is_pasted_nothing_changes(form):
    sample = draw_scene(13, 19, 0, form)
    assert copy_paste(sample, draw_scene(13, 19, 1), np.full(7, False)) is sample
    assert copy_paste(sample, draw_scene(13, 19, 1, form, num=0), np.full(0, False)) is sample
    beyond = replace(draw_scene(23, 29, 1), target=rectangles((23, 29), (13, 0, 23, 29), (0, 19, 23, 29)))
    assert copy_paste(sample, beyond, np.full(2, True)) is sample


def test_an_image_without_segments_gets_some():
    sample, other = draw_scene(13, 19, 0, num=0), draw_scene(13, 19, 1)
    is_pasted = other.target.binary_masks().any((1, 2)).numpy()
    expected = [item for item, keep in zip(segments_of(other.target), is_pasted, strict=True) if keep]
    assert_segments(copy_paste(sample, other, is_pasted).target, expected)


def test_only_objects_are_chosen_each_with_probability_one_half():
    target = draw_scene(13, 19, 3, "id_map", num=11).target
    masks, labels = target.binary_masks(), target.labels.tolist()
    may_be = [
        bool(mask.any()) and not crowd and label not in STUFF
        for label, crowd, mask in zip(labels, target.is_crowd.tolist(), masks, strict=True)
    ]
    assert 1 < sum(may_be) < 9
    assert {*STUFF} <= {*labels}
    generator = np.random.default_rng(0)
    times = sum(choose_objects(target, STUFF, generator).astype(int) for _ in range(2000))
    assert (times > 0).tolist() == may_be
    assert np.abs(times[may_be] / 2000 - 0.5).max() < 0.05


def test_nothing_is_chosen_among_crowds_and_stuff():
    crowds = rectangles((5, 7), (0, 0, 2, 2), (1, 1, 3, 3), is_crowd=[True, True])
    stuff = rectangles((5, 7), (0, 0, 2, 2), labels=[4])
    empty = rectangles((5, 7))
    generator = np.random.default_rng(0)
    for target in (crowds, stuff, empty):
        assert not any(choose_objects(target, STUFF, generator).any() for _ in range(9))
    # No random number is drawn for them.
    assert generator.bit_generator.state == np.random.default_rng(0).bit_generator.state
