# SPDX-License-Identifier: Apache-2.0
"""Ids become unique, flags 0 or 1, sizes those of the files, and every change is written down."""

import io
import json
from pathlib import Path

import pytest

from unisegment.checking.fixed_lists import Changes, FixedLists, FreshIds, flag_of


def lists_of(images=(), categories=()):
    changes = Changes(io.StringIO(), Path("changes.json"))
    lists = FixedLists(Path("a.json"), changes)
    for entry in categories:
        lists.look_at_category(entry)
    for entry in images:
        lists.look_at_image(entry)
    lists.finish()
    return lists, changes


def image(number, name, height=3, width=5, **others):
    return {"id": number, "file_name": name, "height": height, "width": width, **others}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(("1", 1), ("0", 0), (True, 1), (False, 0), (2, 1), (-1, 1), (0.0, 0), ("true", 1), ("False", 0), ("yes", 1)),
        *(("no", 0), (None, 0), ("", 0), ([1], 0), ({}, 0), (float("nan"), 0), ("2", 1), (" 1 ", 1)),
    ],
)
def test_what_flags_mean(value, expected):
    assert flag_of(value) == expected


def test_flags_that_are_right_or_missing_stay():
    lists, changes = lists_of()
    assert [lists.fix_flag(entry, "iscrowd", "x") for entry in ({"iscrowd": 1}, {})] == [{"iscrowd": 1}, {}]
    assert lists.fix_flag({"iscrowd": True, "id": 3}, "iscrowd", "x") == {"iscrowd": 1, "id": 3}
    assert changes.counts == {"odd-iscrowd": 1}


def test_images_of_one_id():
    entries = [image(7, "a.jpg"), image(7, "b.jpg", license=3), image(9, "c.jpg"), image(7, "a.jpg"), {"id": 1}]
    lists, changes = lists_of(entries)
    fixed = [lists.fix_image(place, entry) for place, entry in enumerate(entries)]
    assert fixed == [entries[0], {**entries[1], "id": 10}, entries[2], None, None]
    assert changes.counts == {"duplicate-image-id": 2, "wrong-structure": 1}
    # What names the id stays with the first, unless its file name says otherwise.
    assert [lists.place_of(7), lists.place_of(7, "x/b.png"), lists.place_of(7, "z.png"), lists.place_of(8)] == [
        0,
        1,
        0,
        None,
    ]
    assert [lists.id_of(0), lists.id_of(1)] == [7, 10]


def test_ids_that_are_texts_become_texts():
    entries = [image("7", "a.jpg"), image("7", "b.jpg"), image("x", "c.jpg")]
    lists, _ = lists_of(entries)
    assert [lists.fix_image(place, entry)["id"] for place, entry in enumerate(entries)] == ["7", "8", "x"]


def test_categories_of_one_id():
    entries = [{"id": 3, "name": "cow", "isthing": "1"}, {"id": 3, "name": "dog"}, {"id": 3, "name": "cow"}, {"id": 4}]
    lists, changes = lists_of(categories=entries)
    fixed = [lists.fix_category(place, entry) for place, entry in enumerate(entries)]
    assert fixed == [{"id": 3, "name": "cow", "isthing": 1}, {"id": 4, "name": "dog"}, None, None]
    assert lists.category_ids == {3}
    assert changes.counts == {"duplicate-category-id": 2, "odd-isthing": 1, "wrong-structure": 1}


def test_sizes_are_those_of_the_files():
    entries = [image(1, "a.jpg"), image(2, "b.jpg", height="3"), image(3, "c.jpg", width=None), image(4, "d.jpg")]
    lists, changes = lists_of(entries)
    lists.sizes |= {0: (5, 3), 1: (3, 5)}  # as their files are; the others have none that can be read
    fixed = [lists.fix_image(place, entry) for place, entry in enumerate(entries)]
    assert fixed == [image(1, "a.jpg", 5, 3), image(2, "b.jpg"), None, entries[3]]
    assert changes.counts == {"wrong-size": 2, "wrong-structure": 1}
    assert "3x5 became 5x3 (height x width)" in changes.first["wrong-size"]


def test_changes_are_counted_and_listed():
    stream = io.StringIO()
    changes = Changes(stream, Path("changes.json"))
    assert changes.table() == "0 changes in the copy, listed in changes.json"
    for number in range(3):
        changes.add("odd-iscrowd", Path("a.json"), f"annotations[{number}]", "iscrowd 2 became 1")
    changes.add("wrong-size", Path("a.json"), "images[0]", "…")
    listed = json.loads(f"[{stream.getvalue()}]")
    assert [entry["entry"] for entry in listed] == ["annotations[0]", "annotations[1]", "annotations[2]", "images[0]"]
    assert listed[0] == {
        "kind": "odd-iscrowd",
        "file": "a.json",
        "entry": "annotations[0]",
        "change": "iscrowd 2 became 1",
    }
    first, second, last = changes.table().splitlines()
    assert first.split() == ["odd-iscrowd", "3", "annotations[0]:", "iscrowd", "2", "became", "1"]
    assert (second.split()[:2], last) == (["wrong-size", "1"], "4 changes in the copy, listed in changes.json")


def test_fresh_ids_are_used_by_nobody():
    fresh = FreshIds()
    for number in (3, "12", None, "x", 2**60, -4, True):
        fresh.see(number)
    assert [fresh.next(), fresh.next()] == [13, 14]
