# SPDX-License-Identifier: Apache-2.0
"""Slices are those of `datasets`, shares are drawn once for both splits, and blocks stay known."""

import numpy as np
import pytest
from datasets import ReadInstruction

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.reading.annotation_reading import target_from_map
from unisegment.data.splitting import SomeImages, part_of_split
from unisegment.structures import Category, Sample


class Numbered(AnnotatedImages):
    """Images that are numbers."""

    def __init__(self, count, block_bounds=None):
        super().__init__([Category(7, "cow", True, (1, 2, 3))])
        self._count = count
        self.block_bounds = block_bounds

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        index = range(self._count)[index]
        image = np.zeros((3, 5, 3), np.uint8)
        return Sample(image, index, f"{index}.png", target=target_from_map(np.zeros((3, 5), np.uint8)))

    def numbers(self, index):
        return {index}

    def stored_image(self, index):
        return f"stored {index}"

    def labels_in(self, index):
        return {index % 3}


def ids(images):
    return [sample.image_id for sample in images]


@pytest.mark.parametrize("spec", ["train[:90%]", "train[90%:]", "train[2:5]", "train[-2:]", "train"])
def test_slices_are_those_of_datasets(spec):
    whole, part = part_of_split("val", {"train": "train", "val": spec}, None, 0)
    wanted = ReadInstruction.from_spec(spec).to_absolute({"train": 13})[0]
    assert whole == "train"
    assert ids(part(Numbered(13))) == [*range(13)][slice(wanted.from_, wanted.to)]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("train[5:5]", r"train\[5:5\] is none of the 13 images"),
        ("train[5:2]", r"train\[5:2\] is none of the 13 images"),
        ("train[:x]", r"train\[:x\] must be a split with a range of its 13 images"),
        ("train[:200%]", r"train\[:200%\] must be a split with a range of its 13 images"),
        ("train[:2]+train[4:]", r"must be one split, perhaps with one range"),
        ("train+other", r"must be one split, perhaps with one range"),
    ],
)
def test_slices_that_are_none_or_nothing_are_refused(spec, reason):
    with pytest.raises(ValueError, match=rf"^data\.splits: .*{reason}"):
        part_of_split("val", {"train": "train", "val": spec}, None, 0)[1](Numbered(13))


def test_a_split_that_nothing_is_said_of_is_that_of_the_files():
    whole, part = part_of_split("test", {"train": "train[:3]", "val": "train[3:]"}, None, 0)
    images = Numbered(5)
    assert (whole, part(images)) == ("test", images)


def test_shares_are_drawn_and_belong_together():
    for seed in (0, 1):
        (train, of_train), (val, of_val) = (part_of_split(split, None, 0.3, seed) for split in ("train", "val"))
        assert train == val == "train"
        learned, held_out = ids(of_train(Numbered(11))), ids(of_val(Numbered(11)))
        assert (len(learned), len(held_out)) == (8, 3)
        assert sorted(learned + held_out) == [*range(11)]
        assert held_out == sorted(held_out)
        assert held_out == ids(of_val(Numbered(11)))
    assert ids(part_of_split("val", None, 0.3, 0)[1](Numbered(11))) != held_out
    assert part_of_split("test", None, 0.3, 0)[0] == "test"


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match=r"val_share=0\.1 of 3 images is 0: choose"):
        part_of_split("train", None, 0.1, 0)[1](Numbered(3))
    for share, splits in ((0.0, None), (1.0, None), (-0.5, {}), (0.5, {"train": "a", "val": "b"})):
        with pytest.raises(ValueError, match=r"val_share must be above 0 and below 1, and alone, without splits; got"):
            part_of_split("val", splits, share, 0)


@pytest.mark.parametrize(
    ("places", "bounds"), [([4, 5, 6, 7, 8, 9, 10], [0, 1, 2, 5, 7]), ([6], [0, 1]), ([], [0]), ([0, 2, 12], [0, 2, 3])]
)
def test_some_images_know_what_the_whole_knows(places, bounds):
    whole = Numbered(13, np.array([0, 3, 5, 6, 9, 12, 13]))
    whole.void_ids = frozenset((255,))
    images = SomeImages(whole, np.array(places, dtype=np.int64))
    assert ids(images) == places
    assert images.void_ids == {255}
    assert images.block_bounds.tolist() == bounds
    for place, index in enumerate(places):
        assert images.numbers(place) == {index}
        assert images.stored_image(place) == f"stored {index}"
        assert images.labels_in(place) == {index % 3}
        assert images.files(place) is None
    assert SomeImages(Numbered(3), np.array([1])).block_bounds is None
