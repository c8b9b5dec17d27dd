# SPDX-License-Identifier: Apache-2.0
"""Shapes keep what lies in the image, compared with pycocotools on a larger canvas, and lose what cannot be drawn."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from unisegment.checking.fixed_shapes import clip_polygon, fix_shape, polygon_area
from unisegment.ops.rle import decode_rle

SIZE = (29, 37)
SQUARE = [2, 3, 13, 3, 13, 14, 2, 14]


def drawn(points, size):
    return decode_rle(coco_mask.frPyObjects([points.ravel().tolist()], *size))[0].numpy()


@pytest.mark.parametrize("seed", range(12))
def test_what_lies_in_the_image_stays(seed):
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 3 + seed))
    radii = generator.uniform(5, 40, len(angles))
    points = np.stack([18 + radii * np.cos(angles), 14 + radii * np.sin(angles)], axis=1)
    height, width = SIZE
    clipped = clip_polygon(points, SIZE)
    assert (clipped >= 0).all()
    assert (clipped <= (width, height)).all()
    margin = 60
    canvas = drawn(points + margin, (height + 2 * margin, width + 2 * margin))
    expected = canvas[margin : margin + height, margin : margin + width]
    # Pixels along the edge may be rounded otherwise.
    assert (drawn(clipped, SIZE) != expected).sum() <= 0.02 * expected.size
    fixed = fix_shape([points.ravel().tolist()], SIZE)
    assert fixed.area == pytest.approx(polygon_area(clipped), abs=0.1)
    rows, columns = np.nonzero(expected)
    reach = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert fixed.box == pytest.approx(reach, abs=1.5)
    assert [kind for kind, _ in fixed.changes] == ["outside-image"]


def test_a_square_over_a_corner_by_hand():
    fixed = fix_shape([[-10, -20, 5, -20, 5, 8, -10, 8]], SIZE)
    assert sorted(map(tuple, np.reshape(fixed.segmentation[0], (-1, 2)))) == [(0, 0), (0, 8), (5, 0), (5, 8)]
    assert (fixed.box, fixed.area) == ([0, 0, 5, 8], 40)
    assert fixed.changes == [
        ("outside-image", "a polygon was cut off: x -10 to 5, y -20 to 8 became x 0 to 5, y 0 to 8")
    ]


def test_what_can_be_drawn_is_not_touched():
    for shape in ([SQUARE], [SQUARE, [0, 0, 37, 0, 37, 29]], {"size": [29, 37], "counts": [5, 7, 29 * 37 - 12]}):
        assert fix_shape(shape, SIZE) == (shape, [], None, None)


@pytest.mark.parametrize(
    ("polygon", "kind", "kept"),
    [
        ([*SQUARE, 7], "bad-polygon", SQUARE),
        ([*SQUARE[:2], float("nan"), 4, *SQUARE[2:]], "bad-polygon", SQUARE),
        ([1e300, 5, *SQUARE], "bad-polygon", SQUARE),
        ([1, 2, 3, 4], "degenerate-polygon", None),
        ([1, 2, 3, 4, 5, 6], "degenerate-polygon", None),
        ([50, 50, 60, 50, 60, 60], "outside-image", None),
        (["1", 2, 3], "bad-polygon", None),
        (7, "bad-polygon", None),
        ([], "degenerate-polygon", None),
    ],
)
def test_other_polygons_are_fixed_or_left_out(polygon, kind, kept):
    fixed = fix_shape([polygon, SQUARE], SIZE)
    assert fixed.segmentation == ([SQUARE] if kept is None else [kept, SQUARE])
    assert [kind for kind, _ in fixed.changes] == [kind]
    alone = fix_shape([polygon], SIZE)
    assert alone.segmentation == (None if kept is None else [kept])
    assert [kind for kind, _ in alone.changes] == [kind] + ["empty-annotation"] * (kept is None)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ({"size": [37, 29], "counts": [5, 7, 29 * 37 - 12]}, "wrong-run-length-size"),
        ({"size": [29, 37], "counts": [5, 7]}, "bad-run-lengths"),
        ({"size": [29, 37], "counts": [29 * 37]}, "empty-annotation"),
        ({"size": [29]}, "bad-run-lengths"),
        ([], "empty-annotation"),
        (None, "wrong-structure"),
    ],
)
def test_shapes_of_nothing_are_left_out(shape, kind):
    fixed = fix_shape(shape, SIZE)
    assert fixed.segmentation is None
    ((found, change),) = fixed.changes
    assert found == kind
    assert change.startswith("left out: ")
