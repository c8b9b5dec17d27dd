# SPDX-License-Identifier: Apache-2.0
"""Stuff fills what objects leave free: worked out by hand."""

import numpy as np
import pytest

from tests.data.writing.scenes import Scenes, mask_of, segments, target_of
from unisegment.data.writing.with_stuff import WithStuff
from unisegment.structures import Category

SIZE = (4, 7)
THINGS = [Category(3, "cow", True, (0, 0, 0)), Category(9, "dog", True, (0, 0, 0))]
STUFF = [
    Category(1, "Cow", False, (0, 0, 0)),
    Category(2, "sky", False, (0, 0, 0)),
    Category(3, "grass", False, (0, 0, 0)),
    Category(5, "kite", True, (0, 0, 0)),
]
TOP, LEFT, MIDDLE = mask_of(SIZE, (0, 0, 2, 7)), mask_of(SIZE, (1, 0, 4, 3)), mask_of(SIZE, (1, 2, 3, 5))


def things(folder, names=("a.png",)):
    target = target_of(SIZE, (0, False, LEFT), (1, True, MIDDLE))
    return Scenes(folder / "things", [target] * len(names), names, THINGS)


def stuff(folder, names=("other/a.jpg",), size=SIZE, categories=STUFF):
    bottom = mask_of(size, (2, 0, 4, 7))
    target = target_of(
        size,
        (1, False, mask_of(size, (0, 0, 1, 7))),
        (2, False, bottom & ~mask_of(size, (2, 6, 4, 7))),
        (0, False, mask_of(size, (1, 6, 2, 7))),
        (3, False, mask_of(size, (2, 6, 3, 7))),
    )
    return Scenes(folder / "stuff", [target] * len(names), names, categories)


def test_stuff_fills_what_objects_leave_free(tmp_path):
    images = WithStuff(things(tmp_path, ["a.png", "b.png"]), stuff(tmp_path, ["other/b.jpg", "c.jpg", "x/a.jpg"]))
    # "Cow" is the name of an object, "kite" is a thing, and the id 3 is taken.
    assert [(item.id, item.name, item.is_thing) for item in images.categories] == [
        (3, "cow", True), (9, "dog", True), (2, "sky", False), (10, "grass", False),
    ]  # fmt: skip
    assert len(images) == 2
    for sample in images:
        free = ~(LEFT | MIDDLE)
        expected = target_of(
            SIZE,
            (0, False, LEFT),
            (1, True, MIDDLE),
            (2, False, mask_of(SIZE, (0, 0, 1, 7)) & free),
            (3, False, mask_of(SIZE, (2, 0, 4, 6)) & free),
        )
        assert segments(sample.target, images.categories) == segments(expected, images.categories)
    assert np.array_equal(images[1].image, images.images[1].image)


def test_what_does_not_belong_together_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no image a: add it"):
        WithStuff(things(tmp_path), stuff(tmp_path, ["b.jpg"]))
    with pytest.raises(ValueError, match=r"has several images a: rename one"):
        WithStuff(things(tmp_path), stuff(tmp_path, ["x/a.jpg", "y/a.jpg"]))
    with pytest.raises(ValueError, match=r"There is no stuff to add: \['Cow'"):
        WithStuff(things(tmp_path), Scenes(tmp_path / "stuff", [target_of(SIZE)], ["a.jpg"], STUFF[:1]))
    images = WithStuff(things(tmp_path), stuff(tmp_path, size=(4, 8)))
    with pytest.raises(ValueError, match=r"a\.png is 4x7 \(height x width\), but .*a\.jpg 4x8: resize"):
        images[0]
    without = things(tmp_path)
    without.files = lambda index: None
    with pytest.raises(ValueError, match="by the names of their files, but one has none"):
        WithStuff(without, stuff(tmp_path))
