# SPDX-License-Identifier: Apache-2.0
"""Connected regions become objects: found by flooding, written out, pixel by pixel."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.writing.scenes import CATEGORIES, Scenes, mask_of, segments, target_of
from unisegment.data.writing.components import Components
from unisegment.structures import SegmentationTarget


def flooded(mask, steps):
    """Return the regions of a mask, each flooded from a pixel that none has reached before."""
    left, regions = {tuple(place) for place in np.argwhere(mask).tolist()}, []
    while left:
        reached, found = [left.pop()], np.zeros_like(mask)
        while reached:
            row, column = place = reached.pop()
            found[place] = True
            near = {(row + down, column + right) for down, right in steps} & left
            left -= near
            reached += near
        regions.append(found)
    return regions


STRAIGHT = [(0, 1), (1, 0), (0, -1), (-1, 0)]
DIAGONAL = [(1, 1), (1, -1), (-1, 1), (-1, -1)]


@pytest.mark.parametrize(("neighbors", "steps"), [(4, STRAIGHT), (8, STRAIGHT + DIAGONAL)])
def test_each_region_of_a_thing_is_an_object(tmp_path, neighbors, steps):
    id_map = torch.from_numpy(np.random.default_rng(3).integers(0, 4, (17, 23)))
    target = SegmentationTarget(labels=[0, 1, 2, 3], id_map=id_map, segment_ids=range(4))
    (sample,) = Components(Scenes(tmp_path, [target], ["a.png"]), neighbors)
    expected = []
    for label, mask in enumerate(target.binary_masks().numpy()):
        regions = flooded(mask, steps) if CATEGORIES[label].is_thing else [mask]
        expected += [(CATEGORIES[label].name, False, region.tobytes()) for region in regions]
    assert segments(sample.target, CATEGORIES) == sorted(expected)


def test_crowds_stay_and_objects_that_overlap_are_taken_apart_each(tmp_path):
    size = (5, 11)
    pieces = [mask_of(size, (0, 0, 2, 2)), mask_of(size, (3, 5, 5, 9))]
    crowd, whole = mask_of(size, (0, 0, 1, 1), (4, 10, 5, 11)), mask_of(size, (1, 1, 4, 8))
    target = target_of(size, (0, False, pieces[0] | pieces[1]), (0, True, crowd), (1, False, whole))
    (sample,) = Components(Scenes(tmp_path, [target], ["a.png"]), 8)
    assert segments(sample.target, CATEGORIES) == segments(
        target_of(size, *((0, False, piece) for piece in pieces), (0, True, crowd), (1, False, whole)), CATEGORIES
    )


def test_if_nothing_is_a_thing_all_are(tmp_path):
    stuff = [replace(category, is_thing=False) for category in CATEGORIES]
    size = (3, 7)
    target = target_of(size, (2, False, mask_of(size, (0, 0, 3, 2), (0, 4, 3, 7))))
    images = Components(Scenes(tmp_path, [target, target_of(size)], ["a.png", "b.png"], stuff), 4)
    assert all(category.is_thing for category in images.categories)
    assert [len(sample.target) for sample in images] == [2, 0]
