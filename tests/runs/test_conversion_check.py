# SPDX-License-Identifier: Apache-2.0
"""What was written and what is read back are compared image by image, and differences are said in words."""

from dataclasses import replace

import pytest
import torch

from tests.data.writing.scenes import CATEGORIES, Scenes, mask_of, target_of
from unisegment.data.writing.coco import CocoInstanceWriter
from unisegment.runs.conversion_check import Comparison
from unisegment.runs.part_folder import PartFolder

SIZE = (7, 5)
TARGET = target_of(SIZE, (0, False, mask_of(SIZE, (0, 0, 3, 3))), (0, False, mask_of(SIZE, (4, 0, 7, 4))))
THINGS = [category for category in CATEGORIES if category.is_thing]


def compare(tmp_path, read, names=("a.png",)):
    """Return what differs between `TARGET`, which is written for images "a.png", and what is read back."""
    writer = CocoInstanceWriter(tmp_path, CATEGORIES)
    parts = PartFolder(tmp_path / "parts")
    parts.write(3, {"file_name": "a.png", "segments": writer.summary(TARGET), "lost": {}})
    images = Scenes(tmp_path / "read", [read] * len(names), names, THINGS)
    return Comparison(writer, parts, tmp_path / "read", images)[3]


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (TARGET, None),
        (TARGET.select(torch.tensor([False, True])), "2 segments were written and 1 read back. Only written: 'cow', 9 "
         "pixels; only read back: none."),
        (replace(TARGET, labels=1 - TARGET.labels), "Only written: 'cow', 9 pixels and 'cow', 12 pixels; only read "
         "back: 'zebra crossing', 9 pixels and 'zebra crossing', 12 pixels."),
        (replace(TARGET, is_crowd=torch.tensor([1, 0])), "only read back: a crowd of 'cow', 9 pixels."),
    ],
    ids=range(4),
)  # fmt: skip
def test_differences_are_said_in_words(tmp_path, read, said):
    # The order of segments is of no account.
    found = compare(tmp_path, read.select(torch.tensor([True] * len(read))), names=("b.png", "a.png"))
    assert found is said is None or (found.startswith(f"{tmp_path / 'read/a.png'}: ") and said in found)


def test_an_image_that_is_not_read_back_is_named(tmp_path):
    assert (
        compare(tmp_path, TARGET, names=("b.png",)) == f"{tmp_path / 'read/a.png'} was written, but is not read back."
    )


def test_other_categories_are_refused(tmp_path):
    writer = CocoInstanceWriter(tmp_path, CATEGORIES)
    with pytest.raises(ValueError, match=r"categories that were written are .*, but those read back"):
        Comparison(writer, PartFolder(tmp_path / "parts"), tmp_path, Scenes(tmp_path, [TARGET], ["a.png"], THINGS[:1]))
