# SPDX-License-Identifier: Apache-2.0
"""Text files of YOLO: lines become the pixels that pycocotools fills, and what is wrong is named by its line."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.data.exports import write_texts
from unisegment.data.problems import DataError
from unisegment.data.reading.yolo_lines import pixels_of, read_objects

SQUARE = "0 0.5 0.5 1 0.5 1 1 0.5 1"


def _objects(root, text):
    write_texts(root, {"a.txt": text})
    return list(read_objects(root / "a.txt", {0, 1}))


def _masks(root, text, size):
    masks = []
    for item in _objects(root, text):
        mask = np.zeros(size, dtype=bool)
        mask.ravel()[pixels_of(item, size, root / "a.txt")] = True
        masks.append(mask)
    return masks


def test_lines_are_objects(tmp_path):
    first, second = _objects(tmp_path, f"\ufeff1.0 0 .25 1e-1 0 1 1\r\n\r\n\t{SQUARE} \r\n")
    assert (first.line, first.category_id, first.polygon.tolist()) == (1, 1, [0, 0.25, 0.1, 0, 1, 1])
    assert (second.line, second.category_id, len(second.polygon)) == (3, 0, 8)
    assert _objects(tmp_path, "") == _objects(tmp_path, "\n \n") == []
    assert list(read_objects(tmp_path / "nowhere.txt", {0})) == []


def test_polygons_are_filled_as_pycocotools_fills_them(tmp_path):
    points = np.random.default_rng(0).random((9, 2))
    (mask,) = _masks(tmp_path, " ".join(["0", *map(repr, points.ravel().tolist())]), (53, 71))
    (rle,) = coco_mask.frPyObjects([(points * [71, 53]).ravel().tolist()], 53, 71)
    assert coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"] == rle["counts"]


def test_what_is_outside_is_cut_off(tmp_path):
    """A corner may be a little outside, as in labels of CVAT: what is inside is the same as if it was cut there."""
    text = "0 0.5 0.5 1.0000005 0.5 1.9 1.5 0.5 1.5\n1 -0.3 0 0.2 0 0.2 1 -0.3 1\n0 0.1 0.1\n0"
    square, stripe, degenerate, empty = _masks(tmp_path, text, (8, 10))
    expected = np.zeros((2, 8, 10), dtype=bool)
    expected[0, 4:, 5:] = expected[1, :, :2] = True
    np.testing.assert_array_equal([square, stripe], expected)
    assert not (degenerate | empty).any()


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "wrong-structure", "four numbers behind the class are a box"),
        ("2 0 0 1 0 1 1", "unknown-category", "there is no class 2, only 0, 1"),
        ("-1 0 0 1 0 1 1", "unknown-category", "there is no class -1"),
        ("0.5 0 0 1 0 1 1", "unknown-category", r"there is no class 0\.5"),
        ("nan 0 0 1 0 1 1", "unknown-category", "there is no class nan"),
        ("9" * 500 + " 0 0 1 0 1 1", "unknown-category", "there is no class inf"),
        ("can 0 0 1 0 1 1", "wrong-structure", "expected are numbers"),
        ("0 0,1 0,2 1 0 1 1", "wrong-structure", "expected are numbers"),
        ("x" * 10**6, "wrong-structure", "expected are numbers"),
        ("\0", "wrong-structure", "expected are numbers"),
        ("0 0 0 1 0 1 1 1", "bad-polygon", "an even number of coordinates, x y x y …, got 7"),
        ("0 0 0 1 nan 1 1", "bad-polygon", "the coordinate nan"),
        ("0 0 0 1 inf 1 1", "bad-polygon", "the coordinate inf"),
        ("0 0 0 1e300 0 1 1", "bad-polygon", r"the coordinate 1e\+300"),
        ("0 12 7 120 7 120 90", "bad-polygon", "the coordinate 120, but coordinates must be fractions"),
        ("0 -1.01 0 1 0 1 1", "bad-polygon", r"the coordinate -1\.01"),
    ],
)
def test_lines_that_are_wrong_are_named(tmp_path, line, kind, message):
    with pytest.raises(DataError, match=rf"a\.txt: line 3: .*{message}") as caught:
        _objects(tmp_path, f"{SQUARE}\n\n{line}\n")
    assert caught.value.problem.kind == kind
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"0 \xe9", "line 1: the byte 0xe9 is not UTF-8"), (b"1" * (2**24 + 1), "more than 16,777,216 bytes")],
)
def test_text_files_of_another_kind(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        _objects(tmp_path, content)


def test_outlines_that_are_too_long(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: line 2: the outlines of its polygons are 4\d+ pixels long"):
        _masks(tmp_path, f"{SQUARE}\n1{' 0 0 1 1' * 250}", (2, 9000))
