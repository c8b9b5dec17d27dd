# SPDX-License-Identifier: Apache-2.0
"""Packed polygons and run lengths come back bit for bit: masks are those that pycocotools draws from the originals."""

import pickle
import warnings

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from unisegment.data.reading import packed_shapes
from unisegment.data.reading.packed_shapes import PackedShapes

SIZE = (23, 31)


def _drawn(rle):
    """Return the pixels of pycocotools' mask."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' own array class is older than numpy 2
        return np.flatnonzero(coco_mask.decode(rle))


def _polygons(generator, count, decimals):
    for _ in range(count):
        parts = []
        for _ in range(generator.integers(1, 4)):
            points = generator.uniform(-2, 33, size=(generator.integers(3, 9), 2))
            parts.append(points.round(decimals).ravel().tolist())
        yield parts


@pytest.mark.parametrize("decimals", [1, 2, 14])
@pytest.mark.parametrize("block", [7, 61, 2**20])
@pytest.mark.parametrize("is_closed", [True, False])
def test_polygons_come_back_exactly(monkeypatch, decimals, block, is_closed):
    monkeypatch.setattr(packed_shapes, "_BLOCK", block)
    originals = list(_polygons(np.random.default_rng(decimals), 53, decimals))
    shapes = PackedShapes()
    for segmentation in originals:
        shapes.append(segmentation)
    if is_closed:
        shapes.close()
    shapes = pickle.loads(pickle.dumps(shapes))
    assert len(shapes) == 53
    for index, segmentation in enumerate(originals):
        expected = _drawn(coco_mask.merge(coco_mask.frPyObjects(segmentation, *SIZE)))
        np.testing.assert_array_equal(np.sort(shapes.pixels(index, SIZE)), expected)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([0.01, 0.29, 1.15, 7.0, 2.55, 639.99], np.uint16),
        ([700.01, 800.29, 901.15, 800.0, 902.55, 1339.99], np.uint16),
        ([0.5, 6000.3, 1.1, 7.0, 2.5, 3.0], np.uint16),
        ([-5.0, 60_000, 1, 7, 2, 3], np.uint16),
        ([12.0, 15, 18, 20, 255, 266], np.uint8),
        ([0.01, 0.29, 1.15, 7.0, 2.55, 1639.99], np.uint32),
        ([0.01, 0.29, 1.15, 7.0, 2.55, 1 / 3], np.float64),
        ([1e300, 0.29, 1.15, 7.0, 2.55, 3.0], np.float64),
        ([float("nan"), 0.29, 1.15, 7.0, 2.55, 3.0], np.float64),
    ],
)
def test_numbers_take_as_few_bytes_as_bring_them_back(numbers, kind):
    shapes = PackedShapes()
    for part in (numbers[:2], numbers[2:]):
        shapes.append([part])
    shapes.close()
    assert [block.numbers.dtype for block in shapes._blocks] == [kind]
    assert repr([*shapes._polygon(0).tolist(), *shapes._polygon(1).tolist()]) == repr([*map(float, numbers)])


def test_a_data_set_like_coco_takes_little():
    """118,000 images with 860,000 polygons of 23 points are to take less than 150 MiB: 180 bytes a polygon."""
    generator = np.random.default_rng(0)
    shapes = PackedShapes()
    for polygon in generator.uniform(0, 640, size=(5000, 46)).round(2).tolist():
        shapes.append([polygon])
    shapes.close()
    assert len(pickle.dumps(shapes)) < 5000 * 110


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
    for form in (counts, [*map(float, counts)], rle["counts"].decode(), rle["counts"]):
        shapes.append({"size": list(SIZE), "counts": form})
    shapes.append([[1, 1, 9, 1, 9, 9]])
    for index in range(4):
        np.testing.assert_array_equal(np.sort(shapes.pixels(index, SIZE)), _drawn(rle))
    assert len(shapes.pixels(4, SIZE))


def test_points_and_lines_cover_nothing():
    shapes = PackedShapes()
    for segmentation in ([], [[]], [[1, 2]], [[1, 2, 3, 9]]):
        shapes.append(segmentation)
    shapes.append([[1, 2, 3, 9], [1, 1, 9, 1, 9, 9]])
    assert [len(shapes.pixels(index, SIZE)) for index in range(4)] == [0] * 4
    expected = _drawn(coco_mask.merge(coco_mask.frPyObjects([[1, 1, 9, 1, 9, 9]], *SIZE)))
    np.testing.assert_array_equal(np.sort(shapes.pixels(4, SIZE)), expected)


@pytest.mark.parametrize("polygon", [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, float("nan")], [1, 2, 3, 4, 5, 1e999]])
def test_impossible_polygons_are_refused_when_drawn(polygon):
    shapes = PackedShapes()
    shapes.append([polygon])
    with pytest.raises(ValueError, match=rf"even number of finite coordinates .* got {len(polygon)} numbers, \[1\.0,"):
        shapes.pixels(0, SIZE)


def test_run_lengths_of_another_size_are_refused_when_drawn():
    shapes = PackedShapes()
    shapes.append({"size": [31, 23], "counts": [713]})
    with pytest.raises(ValueError, match=r"of size \[31, 23\], but the image is \[23, 31\]"):
        shapes.pixels(0, SIZE)


@pytest.mark.parametrize("segmentation", [None, 5, "abc", [1.0, 2.0], ["abc"], [[None]], [[[1, 2]]], [["1", "2"]],
    [[10**400, 1]], [{}], {"counts": []}, {"size": 3, "counts": []}, {"size": [3], "counts": [3]},
    {"size": [3, 5, 1], "counts": [15]}, {"size": [3, "5"], "counts": [15]}, {"size": [3, 2**31], "counts": [15]},
    {"size": [3, 5]}, {"size": [3, 5], "counts": 15}, {"size": [3, 5], "counts": [7.5, 7.5]},
    {"size": [3, 5], "counts": [[15]]}, {"size": [3, 5], "counts": [2**64]}, {"size": [3, 5], "counts": None}],
)  # fmt: skip
def test_other_content_is_refused_at_once(segmentation):
    with pytest.raises(ValueError, match=r"must be|is missing"):
        PackedShapes().append(segmentation)


@pytest.mark.parametrize(
    "counts",
    [[-1, 714], [2**31, 713 - 2**31], [2**63 - 1, -(2**63)], [714], [2**32 + 713], [], "", "0", "o", "zz",
     "o" * 99 + "0", "é", "\0", "fff3o", [2**62, 2**62, 2**62, 2**62, 713]],
)  # fmt: skip
def test_broken_run_lengths_are_refused_when_drawn(counts):
    shapes = PackedShapes()
    shapes.append({"size": list(SIZE), "counts": counts})
    with pytest.raises(ValueError, match=r"the run lengths \(RLE\) "):
        shapes.pixels(0, SIZE)


@pytest.mark.parametrize("value", [2**32, 1e9, 1e300, -1e18, 2 * 31 + 0.01, -31.01])
@pytest.mark.parametrize("axis", [0, 1])
def test_what_lies_far_outside_is_refused(value, axis):
    """pycocotools writes outside of its memory for such numbers, which ends the process."""
    polygon = [1.0, 1, 8, 1, 8, 8]
    polygon[2 + axis] = value
    shapes = PackedShapes()
    shapes.append([[1, 1, 3, 1, 3, 3], polygon])
    with pytest.raises(ValueError, match=rf"a polygon has {'xy'[axis]} = .* too far outside of the image of 23x31"):
        shapes.pixels(0, SIZE)


def test_what_lies_up_to_one_image_outside_is_cut_off():
    """As pycocotools does, which can draw that."""
    generator = np.random.default_rng(5)
    shapes = PackedShapes()
    originals = []
    for _ in range(200):
        points = generator.uniform((-31, -23), (62, 46), size=(7, 2)).round(2)
        originals.append([points.ravel().tolist(), [-31, -23, 62, -23, 62, 46]])
        shapes.append(originals[-1])
    for index, segmentation in enumerate(originals):
        expected = _drawn(coco_mask.merge(coco_mask.frPyObjects(segmentation, *SIZE)))
        np.testing.assert_array_equal(np.sort(shapes.pixels(index, SIZE)), expected)


def test_endless_outlines_are_refused_at_once():
    """250 times there and back through an image of 40,000 pixels: 20 million, for which pycocotools takes gigabytes."""
    shapes = PackedShapes()
    shapes.append([[coordinate for row in range(250) for coordinate in (0, row, 40_000, row)]])
    with pytest.raises(ValueError, match=r"outlines of its polygons are 20\d{6} pixels long, but may be 4194304"):
        shapes.pixels(0, (1000, 40_000))


def test_many_polygons_of_an_object_are_merged_in_time():
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 290, size=(3000, 2))
    polygons = [[x, y, x + 3, y, x + 3, y + 3] for x, y in corners.tolist()]
    shapes = PackedShapes()
    shapes.append(polygons)
    expected = _drawn(coco_mask.merge(coco_mask.frPyObjects(polygons, 300, 310)))
    np.testing.assert_array_equal(np.sort(shapes.pixels(0, (300, 310))), expected)
