# SPDX-License-Identifier: Apache-2.0
"""Shapes are measured as pycocotools does, and compared with what else is said of them."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from unisegment.data.reading.object_checks import ObjectChecks
from unisegment.data.reading.packed_shapes import PackedShapes

SIZE = (23, 31)
SQUARE = [[2, 3, 13, 3, 13, 14, 2, 14]]


def doubts(segmentation, size=SIZE, **entry):
    shapes = PackedShapes()
    checks = ObjectChecks(shapes)
    shapes.append(segmentation)
    checks.add({"segmentation": segmentation, **entry}, 1, 2)
    return {kind: detail for kind, detail, _ in checks.compare(0, size)}


@pytest.mark.parametrize(
    ("segmentation", "kind"),
    [
        ([], "empty-annotation"),
        ([[]], "empty-annotation"),
        ([[1, 2, 3, 4]], "degenerate-polygon"),
        ([[1, 2, 8, 2, 8, 13], [1, 2, 3, 4]], "degenerate-polygon"),
        ([[1, 2, 2, 4, 3, 6]], "degenerate-polygon"),
        ({"size": [23, 31], "counts": [23 * 31]}, "empty-annotation"),
        ([[20, 3, 33, 3, 33, 8]], "outside-image"),
        ([[20, 3, 25, 3, 25, -2]], "outside-image"),
    ],
)
def test_doubtful_shapes(segmentation, kind):
    assert [*doubts(segmentation)] == [kind]


def test_how_far_outside_is_said():
    assert (
        doubts([[80, 3, 86, 3, 86, 14]])["outside-image"] == "wholly outside: x 80.0 to 86.0 of 31, y 3.0 to 14.0 of 23"
    )
    assert doubts([[-0.5, 3, 31.5, 3, 13, 14]]) == {}


def test_boxes_and_areas_are_compared():
    assert doubts(SQUARE, bbox=[2, 3, 11, 11], area=121) == {}
    assert doubts(SQUARE, bbox=[1.1, 2.2, 12, 13], area=190.5) == {}
    assert doubts(SQUARE, bbox=None, area="large") == {}
    assert doubts(SQUARE, bbox=[2, 3, 13, 14], area=1210) == {
        "box-disagrees": "bbox is [2.0, 3.0, 13.0, 14.0], its shape's [2.0, 3.0, 11.0, 11.0]",
        "area-disagrees": "area is 1210, its shape's 121",
    }
    wild = {"bbox": [float("inf"), 0, -float("inf"), float("nan")], "area": float("nan")}
    assert doubts(SQUARE, **wild) == {}


def test_areas_are_those_of_pycocotools():
    generator = np.random.default_rng(0)
    for size in ((5, 7), (211, 307)):
        mask = generator.random(size) < 0.4
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        segmentation = {"size": list(size), "counts": rle["counts"].decode()}
        assert doubts(segmentation, size, area=int(mask.sum())) == {}
        assert "area-disagrees" in doubts(segmentation, size, area=int(mask.sum()) + 30_000)
    two = [[1.5, 2, 8.5, 2, 8.5, 13, 1.5, 13], [20, 3, 31, 3, 31, 8]]
    assert "its shape's 104.5" in doubts(two, area=10_000)["area-disagrees"]


def test_where_it_is():
    shapes = PackedShapes()
    checks = ObjectChecks(shapes)
    shapes.append([[20, 3, 33, 3, 33, 8], [1, 2, 5, 9, 2, 7]])
    checks.add({"segmentation": []}, 1, 2)
    ((_, _, box),) = checks.compare(0, SIZE)
    assert box == (1, 2, 33, 9)


def test_what_is_there_twice():
    shapes = PackedShapes()
    checks = ObjectChecks(shapes)
    for image_id, number in ((1, 7), (1, 8), (2, 7), (1, None), (None, None)):
        shapes.append(SQUARE)
        entry = {} if image_id is None else {"segmentation": SQUARE, "id": number}
        checks.add(entry, image_id, 2)
    assert list(checks.repeated_ids()) == [(7, 2)]
    assert [[kind for kind, _, _ in checks.compare(place, SIZE)] for place in range(5)] == [
        [], ["duplicate-annotation"], [], ["duplicate-annotation"], [],
    ]  # fmt: skip


def test_ids_may_be_anything():
    shapes = PackedShapes()
    checks = ObjectChecks(shapes)
    for number in ([3], {"a": 1}, "x", 2.5, [3]):
        shapes.append([])
        checks.add({"segmentation": [], "id": number}, 1, 2)
    assert list(checks.repeated_ids()) == [("[3]", 2)]
