# SPDX-License-Identifier: Apache-2.0
"""Packed columns give back what went in, in fewer bytes."""

import pickle

import numpy as np
import pytest

from unisegment.data.reading.packed_columns import PackedIds, PackedTexts, smallest


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([], np.uint8),
        ([0, 255], np.uint8),
        ([-1, 127], np.int8),
        ([-1, 128], np.int16),
        ([256], np.uint16),
        ([-1, 2**16], np.int32),
        ([2**31], np.uint32),
        ([-(2**63), 2**63 - 1], np.int64),
    ],
)
def test_numbers_take_the_smallest_type(numbers, kind):
    packed = smallest(np.array(numbers, dtype=np.int64))
    assert packed.dtype == kind
    assert packed.tolist() == numbers


def test_texts_come_back():
    originals = ["a.jpg", "", "Kühe/😀.png", "not UTF-8 \udcff.jpg", "a.jpg"]
    texts = pickle.loads(pickle.dumps(PackedTexts(originals)))
    assert list(texts) == originals
    assert [texts[-1], texts[np.uint8(2)]] == [originals[-1], originals[2]]
    with pytest.raises(IndexError):
        texts[5]


def test_texts_take_little():
    texts = PackedTexts(f"{number:012}.jpg" for number in range(1000))
    assert len(pickle.dumps(texts)) < 1000 * 26  # numpy: 64


def test_ids_stand_for_what_belongs_to_them():
    ids = PackedIds()
    for item in (5, "5", 2**62, 5, -1):
        ids.append(item)
    assert len(ids) == 5
    assert list(ids.distinct()) == [5, "5", 2**62, -1]
    assert ids.look_up([7, -8, 9, 10]).tolist() == [7, -8, 9, 7, 10]
    assert PackedIds().look_up([]).tolist() == []
