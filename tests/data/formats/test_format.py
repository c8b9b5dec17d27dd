# SPDX-License-Identifier: Apache-2.0
"""Layouts find the parts of a split by the names that data sets give it."""

import pytest

from unisegment.data.formats.format import Format, Found, Layout

SPLIT = Layout(parts={"annotations": "{split}/a.json", "images": "images/{long_split}"}, settings={"kind": 3})
FLAT = Layout(parts={"annotations": "all.json", "images": "photos", "sign": "photos/*.jpg"})


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def known(*layouts, **settings):
    return Format(name="mine", summary="", layouts=layouts, open=list, tasks=("instance",), labels="", **settings)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["val"], "val"),
        (["valid"], "valid"),
        (["validation"], "validation"),
        (["test"], "test"),
        (["val", "test"], "val"),
        (["Validation", "Test"], "Validation"),
        (["Validation", "test"], "Validation"),
    ],
)
def test_splits_have_the_names_of_their_tools(tmp_path, names, wanted):
    layout = Layout(parts={"annotations": "{split}/a.json"})
    for name in names:
        touch(tmp_path, f"{name}/a.json")
    assert layout.find(tmp_path, "val") == Found(tmp_path, wanted, {"annotations": tmp_path / wanted / "a.json"})
    assert layout.find(tmp_path, "train") is None
    assert layout.find(tmp_path, wanted).split == wanted


def test_all_parts_must_be_there(tmp_path):
    touch(tmp_path, "train/a.json", "images/training/b.jpg")
    found = SPLIT.find(tmp_path, "train")
    assert found.parts == {"annotations": tmp_path / "train/a.json", "images": tmp_path / "images/training"}
    assert found.settings == {"kind": 3}
    touch(tmp_path, "val/a.json")
    assert SPLIT.find(tmp_path, "val") is None
    assert SPLIT.lacking(tmp_path, "val") == ["images/validation"]


def test_a_data_set_without_splits_is_for_training(tmp_path):
    touch(tmp_path, "all.json", "photos/notes.txt")
    assert FLAT.find(tmp_path, "train") is None  # no photo
    touch(tmp_path, "photos/a.jpg")
    assert FLAT.find(tmp_path, "train").parts["images"] == tmp_path / "photos"
    assert FLAT.find(tmp_path, "val") is None
    mine = known(SPLIT, FLAT)
    # What it is shows, whatever split is asked for.
    assert mine.fits(tmp_path, ("val",))
    assert not mine.has_splits(tmp_path)
    assert mine.roles == {"annotations", "images"}
    assert mine.describe("val") == "val/a.json, images/validation; or all.json, photos, photos/*.jpg"


def test_a_data_set_with_splits_must_have_the_one_that_is_asked_for(tmp_path):
    touch(tmp_path, "train/a.json", "images/training/b.jpg")
    assert known(SPLIT).fits(tmp_path, ("train", "val"))
    assert known(SPLIT, FLAT).has_splits(tmp_path)
    assert not known(SPLIT).fits(tmp_path, ("val",))


def test_a_look_inside_tells_formats_of_one_layout_apart(tmp_path):
    touch(tmp_path, "all.json", "photos/a.jpg")
    looked = []
    for answer in (True, False):
        mine = known(FLAT, sniff=lambda found, answer=answer: looked.append(found.split) or answer)
        assert mine.fits(tmp_path, ("train",)) == answer
    assert looked == ["train", "train"]


def test_a_folder_may_list_its_splits_itself(tmp_path):
    mine = known(splits=lambda root: ["train", "valid"])
    assert mine.find(tmp_path, "val") == Found(tmp_path, "valid")
    assert mine.has_splits(tmp_path)
    assert mine.find(tmp_path, "other") is None
    assert mine.fits(tmp_path, ("val",))
