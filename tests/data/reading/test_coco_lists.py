# SPDX-License-Identifier: Apache-2.0
"""Categories and images as a file lists them, in arrays, and ids that must be among them."""

import json

import pytest

from unisegment.data.reading.coco_lists import CocoLists
from unisegment.data.reading.packed_columns import PackedIds

CONTENT = {
    "annotations": [{"n": 7}],
    "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "sky", "isthing": 0}],
    "images": [{"id": 20, "file_name": "b.jpg", "height": 4, "width": 2},
               {"id": 10, "file_name": "long.jpg", "height": 3, "width": 5}],
}  # fmt: skip


def _listed(tmp_path, content, **options):
    (tmp_path / "a.json").write_text(json.dumps(content))
    annotations = []
    listed = CocoLists(tmp_path / "a.json", annotations.append, data_format="my format", hint="", **options)
    return listed, annotations


def _ids(*items):
    ids = PackedIds()
    for item in items:
        ids.append(item)
    return ids


@pytest.mark.parametrize("order", [1, -1])
def test_everything_listed_is_kept(tmp_path, order):
    listed, annotations = _listed(tmp_path, dict([*CONTENT.items()][::order]), is_thing=True)
    assert annotations == [{"n": 7}]
    assert [(category.id, category.is_thing) for category in listed.categories] == [(3, False), (90, True)]
    assert list(listed.images) == [(20, "b.jpg", (4, 2)), (10, "long.jpg", (3, 5))]
    assert listed.places_of(_ids(10, 20, 10)).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"a\.json has annotations of images that it does not list: \[11\]"):
        listed.places_of(_ids(10, 11))


def test_categories_may_have_to_say_what_they_are(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json is not in my format: categories\[0\]: isthing is missing"):
        _listed(tmp_path, CONTENT)


def test_annotations_may_be_missing_where_that_is_allowed(tmp_path):
    content = CONTENT | {"annotations": []}
    listed, _ = _listed(tmp_path, content, is_thing=True, optional=["annotations"])
    assert listed.places_of(_ids()).shape == (0,)
    with pytest.raises(ValueError, match="it lists no annotations"):
        _listed(tmp_path, content, is_thing=True)


def test_what_a_table_lacks_is_named(tmp_path):
    listed, _ = _listed(tmp_path, CONTENT, is_thing=True)
    assert listed.labels_of(_ids(90, 3, 90), {90: 5, 3: -1}, "x").tolist() == [5, -1, 5]
    with pytest.raises(ValueError, match=r"a\.json has segments of categories that it does not list: \[4, 7\]"):
        listed.labels_of(_ids(7, 4, 3), {3: 0, 90: 1}, "segments")


@pytest.mark.parametrize("image_id", [[1, 2], None, {"a": 1}, 1.5, True])
def test_an_id_is_a_number_or_a_name(tmp_path, image_id):
    images = [*CONTENT["images"], {**CONTENT["images"][0], "id": image_id}]
    with pytest.raises(
        ValueError, match=r"a\.json is not in my format: images\[2\]: id must be a whole number of 64 bits or a text"
    ):
        _listed(tmp_path, {**CONTENT, "images": images}, is_thing=True)


@pytest.mark.parametrize(("lists", "which"), [("images", "20: b.jpg, c.jpg"), ("categories", "90: dog, cow")])
def test_ids_have_one_owner_each(tmp_path, lists, which):
    second = {**CONTENT[lists][0], "file_name": "c.jpg", "name": "cow"}
    with pytest.raises(
        ValueError, match=rf"a\.json lists several {lists} of the id {which}\. Each needs an id of its own"
    ):
        _listed(tmp_path, {**CONTENT, lists: [*CONTENT[lists], second]}, is_thing=True)


def test_names_of_categories_are_texts(tmp_path):
    categories = [{"id": 1, "name": 1}, {"id": 2, "name": 2.5}]
    listed, _ = _listed(tmp_path, {**CONTENT, "categories": categories}, is_thing=True)
    assert [category.name for category in listed.categories] == ["1", "2.5"]
    categories[1]["name"] = None
    with pytest.raises(ValueError, match=r"categories\[1\].*the name of a category must be a text of .*, got None"):
        _listed(tmp_path, {**CONTENT, "categories": categories}, is_thing=True)
