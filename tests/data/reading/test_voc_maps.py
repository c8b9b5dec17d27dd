# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC's PNG files: an object is of the class that most of its pixels have, whatever form the numbers are in."""

import numpy as np
import pytest
from PIL import Image

from tests.data.map_files import segments, write_map
from tests.data.mask_trees import color_png, palette_png
from unisegment.data.reading.label_maps import Pairs
from unisegment.data.reading.voc_maps import VocMaps, voc_color
from unisegment.structures import Category

CATEGORIES = [
    Category(0, "background", False, (0, 0, 0)),
    Category(1, "car", True, (10, 128, 0)),
    Category(2, "cat", True, (0, 108, 128)),
]
COLORS = {item.id: item.color for item in CATEGORIES} | {255: voc_color(255)}
CLASSES = [[0, 1, 1, 2], [0, 1, 2, 2], [255, 255, 2, 1]]
OBJECTS = [[0, 7, 7, 4], [0, 7, 7, 4], [255, 255, 0, 0]]


@pytest.fixture
def opened(tmp_path):
    """Return what opens an image of 3 x 4 whose maps are written, with or without objects."""
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "a.png")

    def opens(with_objects=True, **options):
        pairs = Pairs(tmp_path, tmp_path / "classes", [("a.png", "a.png", "a")])
        return VocMaps(pairs, tmp_path / "objects" if with_objects else None, CATEGORIES, **options)

    return opens


def _write(folder, form, numbers, colors):
    numbers = np.array(numbers, np.uint8)
    if form == "palette":
        palette_png(folder / "a.png", numbers)
    elif form == "grey":
        write_map(folder / "a.png", numbers)
    else:
        color_png(folder / "a.png", numbers, colors)


def test_palette_has_the_colors_of_the_challenge():
    # aeroplane, bicycle, person, tvmonitor and void, as the pictures on its pages show them
    expected = {1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {number: voc_color(number) for number in expected} == expected
    assert len({voc_color(number) for number in range(256)}) == 256


@pytest.mark.parametrize("form", ["palette", "grey", "colors"])
def test_semantic(tmp_path, opened, form):
    _write(tmp_path / "classes", form, CLASSES, COLORS)
    images = opened(with_objects=False)
    assert segments(images[0].target) == [
        (0, False, [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]),
        (1, False, [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
        (2, False, [[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 0]]),
    ]
    assert images.labels_in(0) == {0, 1, 2}


@pytest.mark.parametrize("form", ["palette", "grey", "colors"])
@pytest.mark.parametrize("object_form", ["palette", "grey", "colors"])
def test_objects(tmp_path, opened, form, object_form):
    """Object 7 is a car by 3 pixels to 1, object 4 a cat; what of cat and car belongs to no object is a crowd."""
    _write(tmp_path / "classes", form, CLASSES, COLORS)
    _write(tmp_path / "objects", object_form, OBJECTS, {7: (5, 6, 7), 4: (250, 0, 0), 255: voc_color(255)})
    images = opened()
    found = sorted(segments(images[0].target))
    assert found == [
        (0, False, [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]),
        (1, False, [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]),
        (1, True, [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]),
        (2, False, [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]),
        (2, True, [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]),
    ]
    assert images.labels_in(0) == {0, 1, 2}


def test_void_classes_are_no_labels(tmp_path, opened):
    _write(tmp_path / "classes", "palette", CLASSES, COLORS)
    _write(tmp_path / "objects", "palette", OBJECTS, {})
    images = opened(void_ids=[0, 1])
    assert images.id2label == {0: "cat"}
    assert sorted(segments(images[0].target)) == [
        (0, False, [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]),
        (0, True, [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]),
    ]


def test_an_image_without_objects(tmp_path, opened):
    _write(tmp_path / "classes", "palette", [[0] * 4] * 3, {})
    _write(tmp_path / "objects", "palette", [[0] * 4] * 3, {})
    assert [label for label, *_ in segments(opened()[0].target)] == [0]
    assert opened(void_ids=[0]).labels_in(0) == set()


def test_an_object_without_class_is_refused(tmp_path, opened):
    _write(tmp_path / "classes", "palette", [[0, 1, 1, 0], [0, 1, 1, 255], [0, 0, 0, 0]], {})
    _write(tmp_path / "objects", "palette", OBJECTS, {})
    with pytest.raises(ValueError, match=r"objects.a\.png: the object at x = 3, y = 0 has no class: .*background"):
        opened()[0]


def test_other_numbers_and_colors_are_refused(tmp_path, opened):
    _write(tmp_path / "objects", "palette", OBJECTS, {})
    _write(tmp_path / "classes", "palette", [[0, 9, 1, 0]] * 3, {})
    for with_objects in (False, True):
        with pytest.raises(
            ValueError, match=r"classes.a\.png: its pixels have the numbers \[9\], but classes are 0 to 2"
        ):
            opened(with_objects)[0]
    _write(tmp_path / "classes", "colors", CLASSES, COLORS | {2: (1, 2, 3)})
    with pytest.raises(ValueError, match=r"classes.a\.png: its pixels have the colours \(1, 2, 3\) .*labelmap\.txt"):
        opened()[0]


def test_maps_of_other_kinds_are_refused(tmp_path, opened):
    _write(tmp_path / "classes", "palette", CLASSES, {})
    file = tmp_path / "objects/a.png"
    file.parent.mkdir()
    for numbers, format, message in (
        (
            np.full((3, 4), 2**30, np.int32),
            "TIFF",
            r"numbers from 1073741824 to 1073741824, but objects are 1 to 65534",
        ),
        (np.full((3, 4), -70_000, np.int32), "TIFF", "numbers from -70000 to -70000, but objects"),
        (np.full((3, 4, 2), 7, np.uint8), "PNG", r"must be \(height, width\)"),
        (np.full((3, 4), 0.5, np.float32), "TIFF", "must hold whole numbers"),
    ):
        Image.fromarray(numbers).save(file, format)
        with pytest.raises(ValueError, match=rf"objects.a\.png: .*{message}"):
            opened()[0]


def test_maps_must_be_of_the_size_of_their_image(tmp_path, opened):
    _write(tmp_path / "classes", "palette", CLASSES, {})
    _write(tmp_path / "objects", "palette", [[0, 7, 7]] * 3, {})
    with pytest.raises(
        ValueError, match=r"objects.a\.png: it is 3x3 \(height x width\), but .*classes.a\.png says 3x4"
    ):
        opened()[0]
    _write(tmp_path / "classes", "palette", [[0, 1, 1]] * 3, {})
    with pytest.raises(ValueError, match=r"classes.a\.png: it is 3x3 \(height x width\), but .*a\.png says 3x4"):
        opened()[0]
