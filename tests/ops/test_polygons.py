# SPDX-License-Identifier: Apache-2.0
"""Polygons are filled again by three rasterizers that we did not write, or that are the definition itself."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from scipy.ndimage import label

from unisegment.ops.polygons import polygons_of_segments, simplify
from unisegment.structures import SegmentationTarget

EIGHT_NEIGHBORS = np.ones((3, 3))


def polygons_of(mask, tolerance=0.0):
    target = SegmentationTarget(labels=[0], masks=np.asarray(mask, np.bool_)[None])
    (found,) = polygons_of_segments(target, tolerance)
    return found


def filled_by_pycocotools(polygons, size):
    filled = np.zeros(size, np.bool_)
    for rings in polygons:
        outer, *holes = (coco_mask.decode(coco_mask.frPyObjects([ring.ravel().tolist()], *size)) for ring in rings)
        inside = outer[..., 0] > 0
        for hole in holes:
            assert inside[hole[..., 0] > 0].all()
            inside &= hole[..., 0] == 0
        assert not filled[inside].any()
        filled |= inside
    return filled


def filled_by_pillow(polygons, size):
    """Pillow also paints borders: these are at multiples of four of a picture four times as large."""
    height, width = size
    filled = np.zeros(size, np.bool_)
    for rings in polygons:
        for ring in rings:
            picture = Image.new("1", (4 * width + 1, 4 * height + 1))
            ImageDraw.Draw(picture).polygon([tuple(point) for point in (4 * ring).tolist()], fill=1)
            filled ^= np.asarray(picture)[2::4, 2::4]
    return filled


def filled_by_definition(polygons, size):
    """The even-odd rule: a pixel is inside if a way to the left from it crosses borders an odd number of times."""
    filled = np.zeros(size, np.bool_)
    for rings in polygons:
        for ring in rings:
            for (x0, y0), (x1, y1) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
                if x0 == x1:
                    filled[min(y0, y1) : max(y0, y1), x0:] ^= True
    return filled


def masks_of_all_kinds():
    generator = np.random.default_rng(0)
    for size in [(1, 1), (1, 9), (9, 1), (2, 2), (7, 11), (13, 5), (23, 31)]:
        for share in (0.1, 0.5, 0.9):
            yield generator.uniform(size=size) < share
        yield np.ones(size, np.bool_)
        yield np.zeros(size, np.bool_)
    checks = np.indices((7, 9)).sum(axis=0) % 2 == 0
    yield from (checks, ~checks, np.eye(6, dtype=np.bool_), ~np.eye(6, dtype=np.bool_))
    frames = np.ones((15, 17), np.bool_)
    for inset in (1, 3, 5):  # islands in holes
        frames[inset:-inset, inset:-inset] ^= True
    yield frames
    # A hole that is bounded on the left, above its highest border, by another hole.
    yield np.pad(np.array([[0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]]), 1, constant_values=1) == 1


MASKS = list(masks_of_all_kinds())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own array class
@pytest.mark.parametrize("fill", [filled_by_pycocotools, filled_by_pillow, filled_by_definition])
def test_filled_polygons_are_the_mask(fill):
    for mask in MASKS:
        np.testing.assert_array_equal(fill(polygons_of(mask), mask.shape), mask)


def test_polygons_are_the_pieces_and_holes_that_scipy_finds():
    for mask in MASKS:
        polygons = polygons_of(mask)
        pieces, num_pieces = label(mask)
        assert len(polygons) == num_pieces
        for rings in polygons:
            x, y = rings[0][0]
            piece = pieces == pieces[y, x]
            np.testing.assert_array_equal(filled_by_definition([rings], mask.shape), piece)
            # What is outside a piece hangs together over corners.
            _, num_outside = label(np.pad(~piece, 1, constant_values=True), EIGHT_NEIGHBORS)
            assert len(rings) - 1 == num_outside - 1


def test_rings_turn_at_each_corner_and_have_the_piece_on_the_right():
    for mask in MASKS:
        for rings in polygons_of(mask):
            for place, ring in enumerate(rings):
                steps = np.roll(ring, -1, axis=0) - ring
                assert ((steps == 0).sum(axis=1) == 1).all()
                assert ((steps[1:] == 0) != (steps[:-1] == 0)).all()
                doubled_area = (ring[:, 0] * np.roll(ring[:, 1], -1) - np.roll(ring[:, 0], -1) * ring[:, 1]).sum()
                assert (doubled_area > 0) == (place == 0)


def test_known_polygons():
    ring = np.ones((3, 4), np.bool_)
    ring[1, 1:3] = False
    ((outer, hole),) = polygons_of(np.pad(ring, ((2, 0), (5, 1))))
    assert outer.tolist() == [[5, 2], [9, 2], [9, 5], [5, 5]]
    assert hole.tolist() == [[8, 4], [8, 3], [6, 3], [6, 4]] or sorted(hole.tolist()) == [
        [6, 3],
        [6, 4],
        [8, 3],
        [8, 4],
    ]
    diagonal = polygons_of([[True, False], [False, True]])
    assert [rings[0].tolist() for rings in diagonal] == [
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
    ]


def test_segments_of_a_map_have_the_polygons_of_their_masks():
    id_map = torch.randint(0, 6, (29, 19)).repeat_interleave(2, 0).repeat_interleave(3, 1)
    target = SegmentationTarget(labels=range(4), id_map=id_map, segment_ids=[5, 0, 90, 2])
    found = polygons_of_segments(target)
    assert [len(polygons) > 1 for polygons in found] == [True, True, False, True]
    for polygons, mask in zip(found, target.binary_masks().numpy(), strict=True):
        for ours, alone in zip(polygons, polygons_of(mask), strict=True):
            assert [ring.tolist() for ring in ours] == [ring.tolist() for ring in alone]


def test_no_segments_have_no_polygons():
    assert polygons_of_segments(SegmentationTarget(labels=[], masks=torch.zeros(0, 3, 5))) == []
    nothing = SegmentationTarget(labels=[], id_map=torch.zeros(3, 5), segment_ids=[])
    assert polygons_of_segments(nothing) == []


def distance_to_ring(point, ring):
    """The distance from a point to the nearest place on a ring, by trying places close together."""
    closed = np.concatenate([ring, ring[:1]]).astype(float)
    places = np.concatenate([np.linspace(a, b, 200) for a, b in pairwise(closed)])
    return np.linalg.norm(places - point, axis=1).min()


@pytest.mark.parametrize(("tolerance", "fewer"), [(0.8, 2), (2.0, 5)])
def test_simplified_borders_stay_close_and_need_fewer_corners(tolerance, fewer):
    rows, columns = np.indices((61, 83))
    disc = (rows - 30) ** 2 + (columns - 40) ** 2 < 27**2
    ((exact,),) = polygons_of(disc)
    ((ring,),) = polygons_of(disc, tolerance)
    assert len(ring) < len(exact) / fewer
    assert {tuple(point) for point in ring.tolist()} <= {tuple(point) for point in exact.tolist()}
    assert max(distance_to_ring(point, ring) for point in exact) <= tolerance + 0.05


def test_rings_that_would_vanish_stay():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert simplify(square, 5.0).tolist() == square.tolist()
    flat = np.array([[0, 0], [9, 0], [9, 1], [5, 1], [5, 2], [0, 2]])
    assert simplify(flat, 0.9).tolist() == [[0, 0], [9, 0], [9, 1], [0, 2]]


@pytest.mark.parametrize("tolerance", [-1, float("nan")])
def test_a_tolerance_below_zero_is_refused(tolerance):
    with pytest.raises(ValueError, match=f"tolerance must be 0 pixels or more, got {tolerance}"):
        polygons_of_segments(SegmentationTarget(labels=[0], masks=torch.ones(1, 3, 5)), tolerance)
