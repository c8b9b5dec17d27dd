# SPDX-License-Identifier: Apache-2.0
"""Packed polygons and run lengths come back bit for bit: masks are those that pycocotools draws from the originals."""

import pickle

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from unisegment.data import packed_shapes
from unisegment.data.packed_shapes import PackedShapes

SIZE = (23, 31)


def _polygons(generator, count, decimals):
    for _ in range(count):
        parts = []
        for _ in range(generator.integers(1, 4)):
            points = generator.uniform(-2, 33, size=(generator.integers(3, 9), 2))
            parts.append(points.round(decimals).ravel().tolist())
        yield parts


@pytest.mark.parametrize("decimals", [1, 2, 14])
@pytest.mark.parametrize("block", [7, 61, 2**20])
def test_polygons_come_back_exactly(monkeypatch, decimals, block):
    monkeypatch.setattr(packed_shapes, "_BLOCK", block)
    originals = list(_polygons(np.random.default_rng(decimals), 53, decimals))
    shapes = PackedShapes()
    for segmentation in originals:
        shapes.append(segmentation)
    shapes = pickle.loads(pickle.dumps(shapes))
    assert len(shapes) == 53
    for index, segmentation in enumerate(originals):
        expected = coco_mask.merge(coco_mask.frPyObjects(segmentation, *SIZE))
        assert shapes.run_lengths(index, SIZE) == expected


def test_two_decimals_take_half_the_memory(monkeypatch):
    monkeypatch.setattr(packed_shapes, "_BLOCK", 6)
    shapes = PackedShapes()
    shapes.append([[0.01, 0.29, 1.15, 7.0, 2.55, 639.99]])
    shapes.append([[0.01, 0.29, 1.15, 7.0, 2.55, 1 / 3]])
    assert [block.dtype for block in shapes._blocks] == [np.int32, np.float64]


def test_run_lengths_may_be_lists_strings_or_bytes():
    mask = np.asfortranarray(np.arange(23 * 31).reshape(SIZE) % 5 == 0, dtype=np.uint8)
    rle = coco_mask.encode(mask)
    flat = mask.ravel(order="F").tolist()
    counts, value = [], 0
    while flat:
        length = next((place for place, item in enumerate(flat) if item != value), len(flat))
        counts.append(length)
        flat, value = flat[length:], 1 - value
    shapes = PackedShapes()
    for form in (counts, rle["counts"].decode(), rle["counts"]):
        shapes.append({"size": list(SIZE), "counts": form})
    shapes.append([[1, 1, 9, 1, 9, 9]])
    for index in range(3):
        assert shapes.run_lengths(index, SIZE) == rle
    assert coco_mask.area(shapes.run_lengths(3, SIZE)) > 0


def test_points_and_lines_cover_nothing():
    shapes = PackedShapes()
    for segmentation in ([], [[]], [[1, 2]], [[1, 2, 3, 9]]):
        shapes.append(segmentation)
    shapes.append([[1, 2, 3, 9], [1, 1, 9, 1, 9, 9]])
    assert [int(coco_mask.area(shapes.run_lengths(index, SIZE))) for index in range(4)] == [0] * 4
    assert shapes.run_lengths(4, SIZE) == coco_mask.merge(coco_mask.frPyObjects([[1, 1, 9, 1, 9, 9]], *SIZE))


@pytest.mark.parametrize("polygon", [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, float("nan")], [1, 2, 3, 4, 5, 1e999]])
def test_impossible_polygons_are_refused_when_drawn(polygon):
    shapes = PackedShapes()
    shapes.append([polygon])
    with pytest.raises(ValueError, match=rf"even number of finite coordinates .* got {len(polygon)} numbers, \[1\.0,"):
        shapes.run_lengths(0, SIZE)


def test_run_lengths_of_another_size_are_refused_when_drawn():
    shapes = PackedShapes()
    shapes.append({"size": [31, 23], "counts": [713]})
    with pytest.raises(ValueError, match=r"of size \[31, 23\], but the image is \[23, 31\]"):
        shapes.run_lengths(0, SIZE)


@pytest.mark.parametrize(
    "segmentation", [None, [1.0, 2.0], ["abc"], [[None]], {"counts": []}, {"size": 3, "counts": []}]
)
def test_other_content_is_refused_at_once(segmentation):
    with pytest.raises((KeyError, TypeError, ValueError)):
        PackedShapes().append(segmentation)
