# SPDX-License-Identifier: Apache-2.0
"""PNG files of labels and objects are read by our readers, and number by number."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.data.writing.scenes import CATEGORIES, Scenes, mask_of, segments, target_of, write
from unisegment.data.formats import open_data_set
from unisegment.data.writing.png_folders import PngInstanceWriter, PngSemanticWriter
from unisegment.structures import Category


def things(*ids):
    return [Category(number, f"n{number}", True, (128, 128, 128)) for number in ids]


def test_objects_come_back(tmp_path):
    images = Scenes(tmp_path / "source", names=("b.png", "a.png", "c.png", "d.png"))
    fitted, lost = write(PngInstanceWriter(tmp_path / "out", CATEGORIES), images)
    read = open_data_set(tmp_path / "out", "png_instance")
    assert read.categories == sorted(CATEGORIES, key=lambda item: item.id)
    assert [sorted(missing) for missing in lost] == [["covered"], ["covered"], [], []]
    in_order = [fitted[1], fitted[0], *fitted[2:]]
    for sample, target in zip(read, in_order, strict=True):
        assert segments(sample.target, read.categories) == segments(target, read.categories)
    # Ids above 64 need three channels: 300 is one.
    with Image.open(tmp_path / "out/instances/train/a.png") as image:
        assert image.mode == "RGB"


def test_semantic_maps_have_the_id_of_each_pixel(tmp_path):
    images = Scenes(tmp_path / "source", names=("a.png", "b.png", "c.png", "d.png"))
    write(PngSemanticWriter(tmp_path / "out", CATEGORIES), images)
    pixels = np.asarray(Image.open(tmp_path / "out/labels/train/d.png"))
    assert pixels.dtype == np.uint16
    expected = np.full((19, 29), 255)
    expected[:9], expected[9:, 3:20], expected[2:5, 1:4], expected[10:15, 4:9] = 3, 300, 7, 7
    np.testing.assert_array_equal(pixels, expected)
    read = open_data_set(tmp_path / "out", "png_semantic")
    assert read.categories == sorted(CATEGORIES, key=lambda item: item.id)
    # A crowd is of its category like others.
    names = {read.categories[label].name for label in read[0].target.labels.tolist()}
    assert names == {"cow", "zebra crossing", "sky"}
    assert not read[0].target.is_crowd.any()


@pytest.mark.parametrize(
    ("ids", "dtype", "void"),
    [((0, 1, 254), np.uint8, 255), ((0, 255), np.uint16, 65535), ((1, 255), np.uint8, 0), ((7, 4000), np.uint16, 255)],
)
def test_void_is_a_number_that_no_category_has(tmp_path, ids, dtype, void):
    size = (3, 5)
    target = target_of(size, *((place, False, mask_of(size, (place, 0, place + 1, 4))) for place in range(len(ids))))
    write(PngSemanticWriter(tmp_path / "out", things(*ids)), Scenes(tmp_path / "source", [target], ["a.png"]))
    pixels = np.asarray(Image.open(tmp_path / "out/labels/train/a.png"))
    assert pixels.dtype == dtype
    assert (pixels[:, 4] == void).all()
    read = open_data_set(tmp_path / "out", "png_semantic")
    assert segments(read[0].target, read.categories) == segments(target, things(*ids))


def test_ids_that_do_not_fit_are_numbered(tmp_path):
    for writer, ids, expected in (
        (PngInstanceWriter, (0, 4), [1, 2]),
        (PngInstanceWriter, (1, 1000), [1, 2]),
        (PngInstanceWriter, (1, 999), [1, 999]),
        (PngSemanticWriter, (0, 2**16), [1, 2]),
        (PngSemanticWriter, (0, 255, 65535), [1, 2, 3]),
        (PngSemanticWriter, (-1, 3), [1, 2]),
        (PngSemanticWriter, (3, 3), [1, 2]),
    ):
        assert [category.id for category in writer(tmp_path, things(*ids)).categories] == expected


def test_crowds_of_a_category_are_one_and_stuff_is_its_id(tmp_path):
    size = (4, 6)
    rows = [mask_of(size, (row, 0, row + 1, 6)) for row in range(4)]
    categories = [*things(2), replace(things(9)[0], is_thing=False)]
    target = target_of(size, (0, True, rows[0]), (0, True, rows[1]), (0, False, rows[2]), (1, False, rows[3]))
    writer = PngInstanceWriter(tmp_path / "out", categories)
    fitted, _ = write(writer, Scenes(tmp_path / "source", [target], ["a.png"]))
    assert writer.summary(fitted[0]) == [[0, 0, 6], [0, 1, 12], [1, 0, 6]]
    pixels = np.asarray(Image.open(tmp_path / "out/instances/train/a.png"))
    assert pixels[:, 0].tolist() == [2, 2, 2001, 9]


def test_no_category_has_1000_objects(tmp_path):
    size = (40, 50)
    boxes = [(row, column, row + 1, column + 1) for row in range(0, 40, 2) for column in range(50)]
    target = target_of(size, *((0, False, mask_of(size, box)) for box in boxes[:999]))
    images = Scenes(tmp_path / "source", [target], ["a.png"])
    write(PngInstanceWriter(tmp_path / "out", things(7)), images)
    assert len(open_data_set(tmp_path / "out", "png_instance")[0].target) == 999
    images.targets = [target_of(size, *((0, False, mask_of(size, box)) for box in boxes))]
    with pytest.raises(ValueError, match=r"1000 objects or more of 'n7', but the format numbers up to 999"):
        write(PngInstanceWriter(tmp_path / "other", things(7)), images)
