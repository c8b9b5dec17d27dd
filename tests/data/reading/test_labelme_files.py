# SPDX-License-Identifier: Apache-2.0
"""LabelMe's shapes: each kind covers the pixels worked out by hand, or by pycocotools; what is wrong is named."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.data.exports import in_base64, labelme_file, write_texts
from unisegment.data.problems import DataError
from unisegment.data.reading.labelme_files import read_labelme

SIZE = (20, 30)
BOX = {"label": "box", "points": [[20.0, 18.0], [10.0, 8.0]], "shape_type": "rectangle"}
POLYGON = {"label": "cat", "points": [[1, 2], [6, 2], [6, 6], [1, 6]], "shape_type": "polygon"}
MASK = {"label": "cat", "points": [[4, 7], [6, 8]], "shape_type": "mask"}


def _read(root, *shapes, **options):
    write_texts(root, {"a.json": labelme_file(*shapes, **options)})
    return read_labelme(root / "a.json")


def _masks(root, *shapes):
    content = _read(root, *shapes)
    masks = np.zeros((len(content.objects()), *SIZE), dtype=bool)
    for mask, parts in zip(masks, content.objects(), strict=True):
        pixels = content.pixels(parts, SIZE)
        assert len(set(pixels.tolist())) == len(pixels)
        mask.ravel()[pixels] = True
    return masks


def _box(x0, y0, x1, y1):
    mask = np.zeros(SIZE, dtype=bool)
    mask[max(y0, 0) : y1, max(x0, 0) : x1] = True
    return mask


def test_boxes_and_polygons(tmp_path):
    """Rectangles of X-AnyLabeling have four points; shapes of LabelMe 3 have no kind."""
    box_of_four = {"label": "a", "points": [[20, 1], [25, 1], [25, 4], [20, 4]], "shape_type": "rectangle"}
    old = {"label": "b", "points": [[0, 0], [3, 0], [3, 3], [0, 3]], "shape_type": None}
    expected = [_box(10, 8, 20, 18), _box(20, 1, 25, 4), _box(1, 2, 6, 6), _box(0, 0, 3, 3)]
    np.testing.assert_array_equal(_masks(tmp_path, BOX, box_of_four, POLYGON, old), expected)


@pytest.mark.parametrize("kind", ["polygon", "oriented_rectangle", "rotation", "quadrilateral"])
def test_polygons_are_filled_as_pycocotools_fills_them(tmp_path, kind):
    points = [[20, 10], [24.3, 14], [20, 18.9], [16, 14]]
    (rle,) = coco_mask.frPyObjects([np.ravel(points).tolist()], *SIZE)
    (mask,) = _masks(tmp_path, {"label": "a", "points": points, "shape_type": kind})
    assert coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"] == rle["counts"]


@pytest.mark.parametrize(("x", "y", "radius"), [(15, 10, 8), (15.5, 9.5, 3.2), (29, 1, 12), (4, 4, 0.7)])
def test_circles(tmp_path, x, y, radius):
    """Pixels whose middle is clearly inside are in it, and those clearly outside are not."""
    rim = [x + radius * 0.6, y - radius * 0.8]
    (mask,) = _masks(tmp_path, {"label": "a", "points": [[x, y], rim], "shape_type": "circle"})
    rows, columns = np.indices(SIZE) + 0.5
    distance = np.hypot(rows - y, columns - x)
    assert mask[distance < radius - 0.75].all()
    assert not mask[distance > radius + 0.75].any()


def test_a_circle_without_radius_covers_nothing(tmp_path):
    assert not _masks(tmp_path, {"label": "a", "points": [[9, 9], [9, 9]], "shape_type": "circle"}).any()


@pytest.mark.parametrize(
    ("points", "rows", "columns"),
    [
        ([[4, 7], [6, 8]], range(7, 9), range(4, 7)),
        ([[4.4, 6.6], [6.6, 7.6]], range(7, 9), range(4, 7)),  # moved: its corners would be 4 pixels apart
        ([[-1, 19], [1, 20]], range(19, 21), range(-1, 2)),
        ([[29, -1], [31, 0]], range(-1, 1), range(29, 32)),
        ([[-20, 0], [-18, 1]], range(0, 2), range(-20, -17)),
    ],
)
def test_masks_lie_between_their_corners(tmp_path, points, rows, columns):
    pixels = np.array([[1, 1, 0], [0, 255, 7]], dtype=np.uint8)
    expected = np.zeros(SIZE, dtype=bool)
    for row, line in zip(rows, pixels, strict=True):
        for column, value in zip(columns, line, strict=True):
            if 0 <= row < 20 and 0 <= column < 30:
                expected[row, column] = value > 0
    np.testing.assert_array_equal(_masks(tmp_path, {**MASK, "points": points, "mask": in_base64(pixels)}), [expected])
    np.testing.assert_array_equal(
        _masks(tmp_path, {**MASK, "points": points, "mask": in_base64(pixels > 0)}), [expected]
    )


def test_a_group_is_one_object(tmp_path):
    """It has one label: another label of the same number is another object."""
    part = {"label": "cat", "points": [[5, 2], [9, 6]], "shape_type": "rectangle", "group_id": 1}
    mask = {**MASK, "points": [[20, 0], [21, 0]], "group_id": 1, "mask": in_base64(np.ones((1, 2), dtype=np.uint8))}
    line = {"label": "cat", "points": [[0, 0], [9, 9]], "shape_type": "line", "group_id": 1}
    shapes = [
        {**POLYGON, "group_id": 1},
        {**BOX, "group_id": 1},
        part,
        line,
        mask,
        {**POLYGON, "group_id": "1"},
        POLYGON,
    ]
    masks = _masks(tmp_path, *shapes)
    expected = [_box(1, 2, 9, 6) | _box(20, 0, 22, 1), _box(10, 8, 20, 18), _box(1, 2, 6, 6), _box(1, 2, 6, 6)]
    np.testing.assert_array_equal(masks, expected)


def test_boxes_of_shapes(tmp_path):
    circle = {"label": "a", "points": [[15, 10], [18, 6]], "shape_type": "circle"}
    nothing = {"label": "a", "points": [], "shape_type": "points"}
    strange = [{**POLYGON, "points": [[0, 0], [number, 0]]} for number in (float("nan"), float("inf"), 1e300)]
    boxes = [shape.box for shape in _read(tmp_path, BOX, POLYGON, circle, nothing, *strange).shapes]
    assert boxes == [(10, 8, 20, 18), (1, 2, 6, 6), (10, 5, 20, 15), None, None, None, None]


def test_what_is_no_object(tmp_path):
    shapes = [
        *({"label": kind, "points": [[1, 1], [9, 9]], "shape_type": kind} for kind in ("line", "linestrip", "point")),
        {"label": "cat", "points": [], "shape_type": "points"},
        {**POLYGON, "points": [[1, 1], [9, 9]]},
        {**POLYGON, "label": "__ignore__"},
        {**POLYGON, "label": "_background_"},
    ]
    content = _read(tmp_path, *shapes)
    assert content.objects() == []
    assert [shape.missing and shape.missing[0] for shape in content.shapes] == [
        *["empty-annotation"] * 4, "degenerate-polygon", None, None,
    ]  # fmt: skip


def test_what_else_a_file_says(tmp_path):
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    content = _read(tmp_path, path="..\\images\\a.jpg", size=(2, 3), data=in_base64(pixels))
    assert (content.image_path, content.size, content.shapes) == ("../images/a.jpg", (2, 3), [])
    np.testing.assert_array_equal(np.asarray(content.image()), pixels)
    assert _read(tmp_path, size=(None, 3)).size is None
    with pytest.raises(DataError, match=r"a\.json: imageData: it cannot be read as an image"):
        _read(tmp_path, data="bm90").image()
    with pytest.raises(DataError, match=r"a\.json: imageData: Invalid base64"):
        _read(tmp_path, data="b").image()


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("", "broken-json", "it is not valid JSON"),
        ('{"shapes": [', "broken-json", "it is not valid JSON .*: correct it, or fetch it again"),
        (b'{"a": "\xff"}', "broken-json", "0xff is not UTF-8"),
        ("[" * 100_000, "broken-json", "too many lists"),
        ("[]", "wrong-structure", "an object with shapes"),
        ("{}", "wrong-structure", "shapes is missing"),
        ('{"shapes": {}, "imagePath": "a.jpg"}', "wrong-structure", "shapes must be a list"),
        ('{"shapes": []}', "wrong-structure", "imagePath is missing"),
        ('{"shapes": [], "imagePath": 3}', "wrong-structure", "imagePath must be a text"),
        ('{"shapes": [], "imagePath": "a", "imageData": 3}', "wrong-structure", "imageData must be a text in base64"),
        ('{"shapes": [], "imagePath": "a", "imageHeight": "2", "imageWidth": 3}', "wrong-structure", "imageHeight"),
        ('{"shapes": [], "imagePath": "a", "imageHeight": 0, "imageWidth": 3}', "wrong-structure", "imageHeight"),
    ],
)
def test_files_that_are_wrong(tmp_path, content, kind, message):
    write_texts(tmp_path, {"b.json": content})
    with pytest.raises(DataError, match=rf"b\.json: .*{message}") as caught:
        read_labelme(tmp_path / "b.json")
    assert caught.value.problem.kind == kind


def test_a_file_that_is_not_there_is_named_once(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        read_labelme(tmp_path / "b.json")
    assert str(caught.value) == f"{tmp_path / 'b.json'}: there is no such file."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "label must be a text"),
        ({"label": ""}, "label must be a text"),
        ({"points": None}, "points must be a list of numbers"),
        ({"points": [1, 2, 3, 4]}, "points must be a list of numbers"),
        ({"points": [[1, 2, 3]]}, "points must be a list of numbers"),
        ({"points": [["a", "b"]]}, "points must be a list of numbers"),
        ({"points": [[10**400, 1]]}, "points must be a list of numbers"),
        ({"shape_type": "star"}, "shape_type must be one of polygon, .*, got 'star'"),
        ({"shape_type": ["polygon"]}, "shape_type must be one of"),
        ({"shape_type": "circle"}, "a circle must have two points, got 4"),
        ({"shape_type": "rectangle", "points": [[1, 2]]}, "a rectangle must have two points, got 1"),
        ({"shape_type": "mask"}, "a mask must have two points, got 4"),
        ({"shape_type": "mask", "points": [[1, 2], [3, 4]]}, "mask must be a PNG file in base64, got None"),
        ({"group_id": [1]}, "group_id must be a whole number of 64 bits or a text"),
    ],
)
def test_shapes_that_are_wrong_are_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=rf"a\.json: it is not in LabelMe's format: shapes\[1\]: {message}"):
        _read(tmp_path, BOX, {**POLYGON, **changes})


_FAR = "too far outside of the image of 20x30"


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ({**POLYGON, "points": [[0, 0], [61, 0], [5, 5]]}, "bad-polygon", f"a polygon has x = 61.0, {_FAR}"),
        ({**POLYGON, "points": [[0, 0], [float("nan"), 0], [5, 5]]}, "bad-polygon", "finite coordinates"),
        ({**BOX, "points": [[0, 0], [1e300, 0]]}, "bad-polygon", _FAR),
        ({**BOX, "shape_type": "circle", "points": [[0, 0], [1e300, 0]]}, "bad-polygon", "x = -1e"),
        ({**BOX, "shape_type": "circle", "points": [[0, 0], [float("inf"), 0]]}, "bad-polygon", "finite coordinates"),
        ({**MASK, "mask": ""}, "bad-bitmap", "data must be a PNG file"),
        ({**MASK, "mask": "A"}, "bad-bitmap", "data must be base64"),
        ({**MASK, "mask": in_base64(np.ones((21, 3), np.uint8))}, "bad-bitmap", "a mask of 21x3 .* does not lie in"),
        ({**MASK, "mask": in_base64(np.ones((5, 5), np.uint8))}, "bad-bitmap", "its mask is 5x5 .* corners of 2x3"),
        ({**MASK, "points": [[1, 2], [1e18, 3]], "mask": "A"}, "bad-bitmap", _FAR),
    ],
)
def test_shapes_that_cannot_be_drawn_are_named(tmp_path, shape, kind, message):
    content = _read(tmp_path, shape)
    with pytest.raises(DataError, match=rf"a\.json: shapes\[0\] \('{shape['label']}'\): .*{message}") as caught:
        content.pixels(content.shapes, SIZE)
    assert caught.value.problem.kind == kind


def test_outlines_that_are_too_long(tmp_path):
    content = _read(tmp_path, {**POLYGON, "points": [[0, 0], [9000, 1]] * 250})
    with pytest.raises(DataError, match=r"shapes\[0\] \('cat'\): the outlines of its polygons are 4\d+ pixels long"):
        content.pixels(content.shapes, (2, 9000))
