# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from unisegment.ops.value_range import checked_range, narrow_range, to_uint8


def test_sixteen_bits_are_rounded():
    values = np.array([[0, 128, 129, 386, 65407, 65535]], dtype=np.uint16)
    assert to_uint8(values)[0].tolist() == [0, 0, 1, 2, 255, 255]
    assert to_uint8(values)[0].tolist() == np.rint(values / 257)[0].tolist()


def test_ends_are_black_and_white_and_what_is_beyond_them_too():
    assert to_uint8(np.array([-7, 10, 61, 110, 999]), (10, 110)).tolist() == [0, 0, 130, 255, 255]
    assert to_uint8(np.array([0.25, 0.5]), (0.25, 0.5)).tolist() == [0, 255]


@pytest.mark.parametrize("numbers", [[7], [7, 7, 7, 9], [0.0], [-3.5]])
def test_percentiles_of_nearly_one_number(numbers):
    image = np.resize(np.array(numbers, dtype=np.float32), (50, 70))
    image[1:] = numbers[0]
    levels = np.unique(to_uint8(image, "percentile"))
    assert levels.tolist() == ([0, 255] if len(set(numbers)) > 1 else [0])


@pytest.mark.parametrize("value", ["dtyp", [5, 5], [9, 3], [1], [0, "x"], [0, float("inf")], 5, None])
def test_ranges_that_make_no_sense(value):
    with pytest.raises(ValueError, match=r"range must be 'dtype', 'percentile' or \[low, high\] .* got"):
        checked_range(value)


def test_numbers_of_files_become_a_tuple():
    assert checked_range([47, 1027.5]) == (47, 1027.5)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.array([47, 1027], np.uint16), (47, 1027)),
        (np.array([60000, 63276], np.uint16), (60000, 63276)),
        (np.array([0, 3277], np.uint16), None),
        (np.array([5, 5], np.uint16), None),
        (np.array([0, 9], np.uint8), None),
        (np.array([0.0, 0.01]), None),
    ],
)
def test_less_than_five_per_cent_of_16_bits_are_few(image, expected):
    assert narrow_range(image) == expected
