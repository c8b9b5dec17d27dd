# SPDX-License-Identifier: Apache-2.0
"""Lists of JSON files are gone through to their end, whatever is in them."""

import pytest

from unisegment.checking.entry_lists import CategoryList, ImageList, read_lists, repeated
from unisegment.data.problems import CollectedProblems
from unisegment.ops.json_values import read_whole_number


def read(tmp_path, text, needed=("images",)):
    file = tmp_path / "a.json"
    file.write_text(text)
    findings, entries = CollectedProblems(), []

    def take(place, entry):
        entries.append((place, read_whole_number(entry, "x")))

    read_lists(file, {"images": take}, needed, findings)
    return entries, [(found["kind"], item["detail"]) for found in findings.as_dicts() for item in found["listed"]]


def test_entries_that_are_refused_are_named_and_the_others_taken(tmp_path):
    entries, found = read(tmp_path, '{"images": [{"x": 1}, {}, 7, null, {"x": "y"}, {"x": 1}], "info": [1]}')
    assert entries == [(0, 1), (5, 1)]
    assert [kind for kind, _ in found] == ["wrong-structure"] * 4
    assert [detail.split(":")[0] for _, detail in found] == [f"images[{place}]" for place in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("text", "kind", "detail"),
    [
        ("", "broken-json", "not valid JSON"),
        ('{"images": [{"x": 1}, {"x', "broken-json", "not valid JSON"),
        ('{"images": [], "info": [1]}', "wrong-structure", "it must list images; lists with entries: info"),
    ],
)
def test_broken_files_are_named(tmp_path, text, kind, detail):
    ((found, message),) = read(tmp_path, text)[1]
    assert found == kind
    assert detail in message


def test_a_missing_file_is_named(tmp_path):
    findings = CollectedProblems()
    read_lists(tmp_path / "a.json", {}, (), findings)
    assert [found["kind"] for found in findings.as_dicts()] == ["no-data"]


def test_repeated_items_have_their_places():
    assert repeated([3, 5, 3, 7, 5, 3]) == {3: [0, 2, 5], 5: [1, 4]}
    assert repeated("abc") == {}


def test_categories_and_images_that_repeat_are_named(tmp_path):
    findings = CollectedProblems()
    categories = CategoryList(tmp_path, findings)
    for place, (number, name) in enumerate([(1, "cow"), (1, "dog"), (2, "cow")]):
        categories.add(place, {"id": number, "name": name})
    images = ImageList(tmp_path, findings)
    for place, (number, name) in enumerate([(1, "a"), (2, "b"), (1, "b")]):
        images.add(place, {"id": number, "file_name": name, "height": 5, "width": 7})
    assert images.finish() == {1: 2, 2: 1}
    assert [(found["kind"], found["listed"][0]["detail"]) for found in findings.as_dicts()] == [
        ("duplicate-category-id", "categories[1] 'dog' has the id 1 of 'cow'"),
        ("duplicate-image-id", "2 images have the id 1: a, b"),
        ("duplicate-category-name", "categories[2] is another 'cow'"),
        ("duplicate-image-name", "2 images are b: ids 2, 1"),
    ]
