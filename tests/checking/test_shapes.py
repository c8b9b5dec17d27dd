# SPDX-License-Identifier: Apache-2.0
"""Shapes are measured, and run lengths read, as pycocotools does."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from unisegment.checking.shapes import inspect_shape
from unisegment.ops.rle import run_lengths


def test_polygons_are_measured():
    shape = inspect_shape([[1.5, 2, 8.5, 2, 8.5, 13, 1.5, 13], [20, 3, 31, 3, 31, 8]])
    assert shape.box == (1.5, 2, 31, 13)
    assert shape.area == 7 * 11 + 11 * 5 / 2
    assert shape.problem is None
    assert shape.size is None


@pytest.mark.parametrize(
    ("segmentation", "kind"),
    [
        ([], "empty-annotation"),
        ([[]], "empty-annotation"),
        ([[1, 2, 3, 4, 5]], "bad-polygon"),
        ([[1, 2, 3, 4, 5, float("nan")]], "bad-polygon"),
        ([[1, 2, 3, 4, 5, 6, 7, -float("inf")]], "bad-polygon"),
        ([[1, 2, 3, 4]], "degenerate-polygon"),
        ([[1, 2, 8, 2, 8, 13], [1, 2, 3, 4]], "degenerate-polygon"),
        ([[1, 2, 2, 4, 3, 6]], "degenerate-polygon"),
        ({"size": [5, 7], "counts": [35]}, "empty-annotation"),
        ({"size": [5, 7], "counts": [30, 4]}, "bad-run-lengths"),
        ({"size": [5, 7], "counts": [40, -5]}, "bad-run-lengths"),
        ({"size": [5, 7], "counts": []}, "bad-run-lengths"),
        ({"size": [5, 7], "counts": ""}, "bad-run-lengths"),
        ({"size": [5, 7], "counts": "hello"}, "bad-run-lengths"),
        ({"size": [5, 7], "counts": "kühn"}, "bad-run-lengths"),
        ({"size": [5, 7], "counts": "oooooooooo0"}, "bad-run-lengths"),
    ],
)
def test_problems(segmentation, kind):
    assert inspect_shape(segmentation).problem[0] == kind


@pytest.mark.parametrize("segmentation", [None, 7, [1, 2, 3, 4, 5, 6], [["a", 2]], {"size": [5, 7]}, {"counts": "0"}])
def test_what_is_no_shape_is_refused(segmentation):
    with pytest.raises(ValueError, match=r"must be|is missing"):
        inspect_shape(segmentation)


def test_run_lengths_are_those_of_pycocotools():
    generator = np.random.default_rng(0)
    for size in ((1, 1), (5, 7), (211, 307)):
        for share in (0.0, 0.01, 0.5, 0.999, 1.0):
            mask = generator.random(size) < share
            mask[size[0] // 3 : size[0] // 2] = True
            encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=~mask[-1, -1]))
            assert run_lengths(encoded["counts"].decode(), size).tolist() == np.diff(changes, prepend=0).tolist()
            shape = inspect_shape({"size": list(size), "counts": encoded["counts"].decode()})
            assert (shape.size, shape.area) == (size, mask.sum()) or shape.problem[0] == "empty-annotation"
