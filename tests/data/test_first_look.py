# SPDX-License-Identifier: Apache-2.0
"""A look at a whole data set finds what is odd, and ends early where nothing is."""

import numpy as np
import pytest

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.first_look import doubt_two_numbers, is_empty, read_first
from unisegment.structures import Category


class Listed(AnnotatedImages):
    """Images with objects at some places, that cannot be read at others; counts what is asked for."""

    def __init__(self, number, with_objects=(), unreadable=(), block_bounds=None):
        super().__init__([])
        self.number, self.with_objects, self.unreadable = number, with_objects, unreadable
        self.block_bounds = block_bounds
        self.asked = []

    def __len__(self):
        return self.number

    def labels_in(self, index):
        self.asked.append(index)
        if index in self.unreadable:
            raise OSError("broken")
        return {0} if index in self.with_objects else set()


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (Listed(97), True),
        (Listed(0), True),
        (Listed(97, {96}), False),
        (Listed(97, unreadable={5}), False),
        (Listed(97, {13}, block_bounds=np.array([0, 97])), False),
    ],
)
def test_data_without_an_object_are_empty(images, expected):
    assert is_empty(images) == expected
    assert len(set(images.asked)) == len(images.asked)


def test_the_look_ends_at_the_first_object_and_does_not_begin_with_the_first_half():
    images = Listed(1000, range(500, 1000))
    assert not is_empty(images)
    assert len(images.asked) < 10
    in_order = Listed(1000, range(500, 1000), block_bounds=np.array([0, 1000]))
    assert not is_empty(in_order)
    assert in_order.asked == list(range(501))


class Maps(AnnotatedImages):
    """Maps that hold some numbers each."""

    def __init__(self, names, numbers, void_ids=()):
        super().__init__([Category(number, name, False, (0, 0, 0)) for number, name in names.items()])
        self.held, self.void_ids = numbers, frozenset(void_ids)

    def __len__(self):
        return len(self.held)

    def numbers(self, index):
        return self.held[index]


BLACK_AND_WHITE = [{0}, {0, 255}, {0, 255}]


@pytest.mark.parametrize("names", [{0: "background", 1: "lesion"}, {1: "lesion"}])
def test_black_and_white_maps_of_two_classes_are_doubted(names):
    text = doubt_two_numbers(Maps(names, BLACK_AND_WHITE))
    assert "the 3 maps looked at hold 0 and 255 alone, and 255 is void: no pixel is 'lesion' (id 1)" in text
    assert "data.categories={0: background, 255: lesion}" in text


@pytest.mark.parametrize(
    "images",
    [
        Maps({0: "background", 255: "lesion"}, BLACK_AND_WHITE),
        Maps({0: "background", 1: "lesion"}, BLACK_AND_WHITE, void_ids=[255]),
        Maps({0: "background"}, BLACK_AND_WHITE),
        Maps({0: "background", 1: "lesion"}, [{0, 255}, {0, 1, 255}]),
        Maps({0: "background", 1: "lesion"}, [{0}, {0}]),
        Maps({0: "background", 1: "lesion"}, [None]),
    ],
)
def test_other_maps_are_not(images):
    assert doubt_two_numbers(images) is None


def test_the_first_image_is_read_unless_such_images_are_left_out():
    class Broken(Listed):
        def __getitem__(self, index):
            raise ValueError(f"image {index} is broken")

    with pytest.raises(ValueError, match="image 0 is broken"):
        read_first(Broken(3), "raise")
    read_first(Broken(3), "skip")
    read_first(Broken(0), "raise")
