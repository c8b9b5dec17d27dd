# SPDX-License-Identifier: Apache-2.0
"""One polygon around holes and pieces is filled again by pycocotools, by Pillow and by the even-odd rule."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from tests.data.writing.scenes import mask_of
from unisegment.data.writing.outlines import joined, outlines_of_segments
from unisegment.structures import SegmentationTarget

SIZE = (31, 43)


def outlines(mask):
    (pieces,) = outlines_of_segments(SegmentationTarget(labels=[0], masks=mask[None]))
    return pieces


def filled(ring):
    rles = coco_mask.frPyObjects([ring.ravel().tolist()], *SIZE)
    return coco_mask.decode(rles)[..., 0].astype(np.bool_)


def filled_by_definition(ring):
    """A pixel is inside if a way to the left from its centre crosses the ring an odd number of times."""
    inside = np.zeros(SIZE, np.bool_)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for (x0, y0), (x1, y1) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
        if y0 != y1:
            crosses = (np.minimum(y0, y1) < y) & (y < np.maximum(y0, y1))
            inside ^= crosses & (x0 + (y - y0) / (y1 - y0) * (x1 - x0) < x)
    return inside


def masks():
    random = np.random.default_rng(7)
    yield mask_of(SIZE, (2, 3, 20, 30), (5, 6, 10, 12), (12, 8, 17, 25), (6, 8, 9, 10), (22, 1, 30, 4))
    yield mask_of(SIZE, (0, 0, 1, 1))
    yield mask_of(SIZE, (0, 0, 31, 43), (1, 1, 30, 42))
    for share in (0.1, 0.5, 0.9):
        yield random.random(SIZE) < share


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own array class
@pytest.mark.parametrize("mask", [*masks()], ids=range(6))
def test_one_polygon_holds_holes_and_pieces(mask):
    pieces = outlines(mask)
    whole = joined(pieces)
    np.testing.assert_array_equal(filled(whole), mask)
    np.testing.assert_array_equal(filled_by_definition(whole), mask)
    np.testing.assert_array_equal(np.sum([filled(piece) for piece in pieces], axis=0), mask)


def test_pillow_fills_the_same():
    """Pillow also paints borders: these are at multiples of four of a picture four times as large."""
    mask = mask_of(SIZE, (2, 3, 20, 30), (5, 6, 10, 12), (12, 8, 17, 25))
    picture = Image.new("1", (4 * SIZE[1] + 1, 4 * SIZE[0] + 1))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in (4 * joined(outlines(mask))).tolist()], fill=1)
    painted = np.asarray(picture)[2::4, 2::4]
    # Bridges are painted, too: they are as few pixels as the holes are away.
    assert (painted & ~mask).sum() <= 6
    assert painted[mask].all()


def test_bridges_join_corners_that_are_near():
    ring, other = np.array([[0, 0], [9, 0], [9, 9], [0, 9]]), np.array([[10, 8], [12, 8], [12, 10], [10, 10]])
    assert joined([ring]).tolist() == ring.tolist()
    assert joined([ring, other]).tolist() == [
        *([0, 0], [9, 0], [9, 9]), *([10, 8], [12, 8], [12, 10], [10, 10], [10, 8]), *([9, 9], [0, 9])
    ]  # fmt: skip
