# SPDX-License-Identifier: Apache-2.0
"""Parts of a run are read in order, and those of another run are refused; whole runs are in tests/inference."""

import pytest

from unisegment.runs.part_folder import OtherRunError, PartFolder, digest


def test_parts_are_read_one_after_the_other(tmp_path):
    parts = PartFolder(tmp_path / "parts")
    assert parts.begin({"a": 1}, 3) == parts.begin({"a": 1}, 3) == [0, 1, 2]
    for number in (11, 2):
        parts.write(number, {"number": number})
    assert [part["number"] for part in parts.read({"number": int})] == [2, 11]
    assert [part["number"] for part in parts.read({"number": int}, range(3, 12))] == [11]
    assert parts.begin({"a": 1}, 4) == [0, 1, 3]


def test_parts_of_named_images_are_in_the_order_of_the_names_and_others_may_come_between(tmp_path):
    few = PartFolder(tmp_path / "parts", ["a", "settings"], may_grow=True)
    assert few.begin({"images": 2, "image_names": "2"}, 2) == [0, 1]
    few.write(1, {"name": "settings"})
    more = PartFolder(tmp_path / "parts", ["settings", "b", "a"], may_grow=True)
    assert more.begin({"images": 3, "image_names": "3"}, 3) == [1, 2]
    more.write(2, {"name": "a"})
    assert [part["name"] for part in more.read({"name": str})] == ["settings", "a"]
    assert [part["name"] for part in more.read({"name": str}, range(1, 3))] == ["a"]
    with pytest.raises(OtherRunError, match="holds results of settings, which is not among the images"):
        PartFolder(tmp_path / "parts", ["a", "b"], may_grow=True).begin({"images": 2, "image_names": "2"}, 2)
    with pytest.raises(OtherRunError, match="other names of images, images=4"):
        PartFolder(tmp_path / "parts", ["settings", "b", "a", "c"]).begin({"images": 4, "image_names": "4"}, 4)


def test_of_lists_that_differ_the_lengths_are_said(tmp_path):
    folder = PartFolder(tmp_path / "parts")
    folder.begin({"categories": [[number, "name"] for number in range(133)], "names": ["a"]}, 1)
    with pytest.raises(OtherRunError, match=r"categories \(8 now, 133 before\), names \(1 now, 1 before, but others\)"):
        folder.begin({"categories": [[number, "name"] for number in range(8)], "names": ["b"]}, 1)


def test_digests_depend_on_the_order():
    assert digest(["a", "b"]) != digest(["b", "a"])
