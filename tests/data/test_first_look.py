# SPDX-License-Identifier: Apache-2.0
"""A look at a whole data set finds what is odd, and ends early where nothing is."""

import numpy as np
import pytest

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.first_look import is_empty


class Listed(AnnotatedImages):
    """Images with objects at some places, that cannot be read at others; counts what is asked for."""

    def __init__(self, number, with_objects=(), unreadable=(), block_bounds=None):
        super().__init__([])
        self.number, self.with_objects, self.unreadable = number, with_objects, unreadable
        self.block_bounds = block_bounds
        self.asked = []

    def __len__(self):
        return self.number

    def has_objects(self, index):
        self.asked.append(index)
        if index in self.unreadable:
            raise OSError("broken")
        return index in self.with_objects


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
