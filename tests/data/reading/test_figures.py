# SPDX-License-Identifier: Apache-2.0
"""Supervisely's figures: areas worked out by hand, and every other value refused with what was expected."""

import numpy as np
import pytest

from tests.data.mask_trees import bitmap, figure
from unisegment.data.reading.figures import pixels_of_figure, with_area

SIZE = (13, 17)
SQUARE = [[2, 3], [12, 3], [12, 11], [2, 11]]
HOLE, OTHER_HOLE = [[4, 5], [7, 5], [7, 9], [4, 9]], [[8, 4], [10, 4], [10, 6], [8, 6]]


def _drawn(entry):
    drawn = np.zeros(SIZE, bool)
    drawn.ravel()[pixels_of_figure(entry, SIZE)] = True
    return drawn


def _box(points):
    (left, top), (right, bottom) = points[0], points[2]
    return np.s_[top:bottom, left:right]


def test_holes_are_outside_of_their_polygon():
    expected = np.zeros(SIZE, bool)
    expected[_box(SQUARE)] = True
    assert (_drawn(figure("polygon", SQUARE)) == expected).all()
    expected[_box(HOLE)] = expected[_box(OTHER_HOLE)] = False
    drawn = _drawn(figure("polygon", SQUARE, HOLE, OTHER_HOLE))
    assert (drawn == expected).all()
    assert drawn.sum() == 10 * 8 - 3 * 4 - 2 * 2


def test_parts_of_a_polygon_are_one_object():
    parts = [{"exterior": SQUARE, "interior": [HOLE]}, {"exterior": HOLE, "interior": []}]
    assert _drawn({"geometryType": "multipolygon", "parts": parts}).sum() == 80
    far = {"exterior": [[14, 0], [16, 0], [16, 2], [14, 2]]}
    assert _drawn({"geometryType": "multipolygon", "parts": [*parts, far]}).sum() == 84
    assert _drawn({"geometryType": "multipolygon", "parts": []}).sum() == 0


@pytest.mark.parametrize("corners", [[[2, 3], [12, 11]], [[12, 11], [2, 3]], [[2, 11], [12, 3]]])
def test_rectangles_are_given_by_two_corners(corners):
    expected = np.zeros(SIZE, bool)
    expected[3:11, 2:12] = True
    assert (_drawn(figure("rectangle", corners)) == expected).all()


def test_what_is_outside_of_the_image_is_cut_off():
    assert _drawn(figure("rectangle", [[-5, 10], [4, 20]])).sum() == 4 * 3
    assert _drawn(figure("polygon", [[15, -3], [20, -3], [20, 2], [15, 2]])).sum() == 2 * 2


def test_figures_without_area_are_none():
    figures = [figure(shape, [[1, 1]]) for shape in ("point", "polygon", "line", "graph", "rectangle", "cuboid")]
    assert [place for place, _ in with_area(figures)] == [1, 4]
    assert _drawn(figure("polygon", [[1, 1], [5, 5]])).sum() == 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"geometryType": "polygon"}, "points is missing"),
        ({"geometryType": "polygon", "points": []}, "must be an object with exterior"),
        (figure("polygon", None), "a ring of points must be a list, got None"),
        (figure("polygon", [[1, 2, 3]]), r"two finite numbers \[x, y\], got \[1, 2, 3\]"),
        (figure("polygon", [[1, "2"]]), r"two finite numbers \[x, y\], got \[1, '2'\]"),
        (figure("polygon", [[1, float("nan")]] * 3), r"two finite numbers \[x, y\]"),
        (figure("polygon", [[1, 10**400]] * 3), r"two finite numbers \[x, y\]"),
        (figure("polygon", [[0, 0], [9, 9], [99, 0]]), r"x = 99\.0, too far outside of the image of 13x17"),
        (figure("polygon", SQUARE, [[0, 0], [9, 9], [0, -99]]), r"y = -99\.0, too far outside"),
        ({"geometryType": "polygon", "points": {"exterior": SQUARE, "interior": 3}}, "interior must be a list, got 3"),
        (figure("rectangle", SQUARE), "exterior of a rectangle must be two points, got 4"),
        ({"geometryType": "multipolygon", "parts": {}}, "parts must be a list"),
        ({"geometryType": "bitmap"}, "bitmap is missing"),
        ({"geometryType": "bitmap", "bitmap": {"data": "eJw"}}, "origin is missing"),
        (bitmap(np.ones((14, 3)), (0, 0)), "a mask of 14x3 .* does not lie in the image of 13x17"),
    ],
)
def test_what_cannot_be_drawn_is_refused(entry, message):
    with pytest.raises(ValueError, match=message):
        pixels_of_figure(entry, SIZE)
