# SPDX-License-Identifier: Apache-2.0
"""Categories and images as a file lists them, ids that must be among them, and what becomes of images that cannot be
used."""

import json

import pytest

from unisegment.data.problems import CollectedProblems, DataError, MissingDataError, Problems
from unisegment.data.reading.coco_lists import NO_LABEL, CocoLists
from unisegment.data.reading.packed_columns import PackedIds

CONTENT = {
    "annotations": [{"n": 7}],
    "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "sky", "isthing": 0}],
    "images": [{"id": 20, "file_name": "b.jpg", "height": 4, "width": 2},
               {"id": 10, "file_name": "long.jpg", "height": 3, "width": 5}],
}  # fmt: skip


def _listed(tmp_path, content=CONTENT, *, problems=None, is_thing=True, optional=()):
    (tmp_path / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
    annotations = []
    lists = CocoLists(tmp_path / "a.json", problems or Problems(), "So it is.", is_thing)
    lists.read(lambda place, entry: annotations.append((place, entry)), optional)
    return lists, annotations


def _ids(*items):
    ids = PackedIds()
    for item in items:
        ids.append(item)
    return ids


def _with(key, *entries):
    return {**CONTENT, key: [*CONTENT[key], *entries]}


@pytest.mark.parametrize("order", [1, -1])
def test_everything_listed_is_kept(tmp_path, order):
    lists, annotations = _listed(tmp_path, dict([*CONTENT.items()][::order]))
    assert annotations == [(0, {"n": 7})]
    assert [(category.id, category.is_thing) for category in lists.categories([])] == [(3, False), (90, True)]
    assert [lists.images[place] for place in (0, -1)] == [(20, "b.jpg", (4, 2)), (10, "long.jpg", (3, 5))]
    assert lists.places_of(_ids(10, 20, 10, None)).tolist() == [1, 0, 1, NO_LABEL]
    assert list(lists.usable()) == [0, 1]


def test_annotations_may_be_missing_where_that_is_allowed(tmp_path):
    lists, _ = _listed(tmp_path, CONTENT | {"annotations": []}, optional=["annotations"])
    assert lists.places_of(_ids()).shape == (0,)
    with pytest.raises(DataError, match=r"a\.json: it lists no annotations\. So it is\."):
        _listed(tmp_path, CONTENT | {"annotations": []})


@pytest.mark.parametrize(
    ("content", "kind", "detail"),
    [
        ("", "broken-json", "it is not valid JSON"),
        ('{"images": [{"id": 1}, {"x', "wrong-structure", "images[0]: height is missing"),
        ('{"info": [{"x', "broken-json", "it is not valid JSON"),
        ("[]", "broken-json", "it must hold one JSON object"),
        ("{}", "wrong-structure", "it lists no categories, images, annotations"),
        (_with("images", {"id": 3}), "wrong-structure", "images[2]: height is missing. So it is."),
        (_with("images", {**CONTENT["images"][0], "id": "x"}), "wrong-structure", "images[2]: its id is a text, but"),
        (_with("images", {**CONTENT["images"][0], "file_name": "c.jpg"}), "duplicate-image-id",
         "2 images have the id 20: b.jpg, c.jpg. Each needs an id of its own."),
        (_with("categories", {"id": 5}), "wrong-structure", "categories[2]: name is missing"),
        (_with("categories", {"id": 5, "name": "x", "isthing": "0"}), "odd-isthing", "categories[2] 'x': isthing must"),
        (_with("categories", {"id": 90, "name": "cow"}), "duplicate-category-id",
         "categories[2] 'cow' has the id 90 of 'dog'. Each needs an id of its own."),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_kind_and_a_text(tmp_path, content, kind, detail):
    with pytest.raises(DataError) as error:
        _listed(tmp_path, content)
    assert error.value.problem[:2] == (kind, str(tmp_path / "a.json"))
    assert error.value.problem.detail.startswith(detail)
    # Whoever wants all problems is told the same.
    collected = CollectedProblems(thorough=True)
    try:
        _listed(tmp_path, content, problems=collected)
    except DataError as other:
        assert kind in ("broken-json", "wrong-structure")
        collected.extend([other.problem])
    assert error.value.problem in collected.errors()


def test_a_missing_file_is_named(tmp_path):
    lists = CocoLists(tmp_path / "none.json", CollectedProblems(), "")
    with pytest.raises(MissingDataError, match=r"none\.json: there is no such file\."):
        lists.read(lambda place, entry: None)


def test_categories_may_have_to_say_what_they_are(tmp_path):
    with pytest.raises(DataError, match=r"categories\[0\] 'dog': isthing is missing"):
        _listed(tmp_path, is_thing=None)


@pytest.mark.parametrize("entry", [{"id": 90, "name": "cow"}, {"id": 5}, {"id": 5, "name": "x", "isthing": 7}])
def test_what_is_wrong_with_categories_cannot_be_left_out(tmp_path, entry):
    """Which labels there are concerns all images."""
    with pytest.raises(DataError):
        _listed(tmp_path, _with("categories", entry), problems=CollectedProblems())


def test_images_that_cannot_be_used_are_left_out_and_named_once(tmp_path):
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 3, "width": 5} for number in (1, 2, 3, 1, 4)]
    content = {**CONTENT, "images": [*images, {"id": 7}]}
    problems = CollectedProblems()
    lists, _ = _listed(tmp_path, content, problems=problems)
    lists.refuse_entry("odd-iscrowd", 3, "annotations[5]: iscrowd must be 0 or 1")
    lists.refuse_entry("wrong-structure", 3, "annotations[6]: x")
    lists.refuse_entry("wrong-structure", None, "annotations[7]: image_id is missing")
    assert lists.places_of(_ids(1, 4, 9)).tolist() == [0, 4, NO_LABEL]
    lists.refuse(4, "unknown-category", "no such category", tmp_path / "4.jpg")
    lists.refuse(4, "unknown-category", "none again", tmp_path / "4.jpg")
    assert list(lists.usable()) == [1]
    assert [problem.detail for problem in problems.errors()] == [
        "images[5]: height is missing. So it is.",
        "annotations[7]: image_id is missing. So it is.",
        "2 images have the id 1: 1.jpg, 1.jpg. Each needs an id of its own.",
        "annotations[5]: iscrowd must be 0 or 1.",
        "annotations[2]: it is of the image 9, which is not listed.",
        "no such category",
    ]
    thorough = CollectedProblems(thorough=True)
    lists, _ = _listed(tmp_path, content, problems=thorough)
    for place in (5, 6):
        lists.refuse_entry("odd-iscrowd", 3, f"annotations[{place}]: iscrowd must be 0 or 1")
    lists.places_of(_ids())
    assert list(lists.usable()) == [0, 1, 2, 3, 4]
    assert sorted(lists.refused) == [0, 2, 3]
    assert thorough.count("error") == 4


def test_doubtful_names_are_told_to_those_who_want_to_know(tmp_path):
    content = _with("images", {**CONTENT["images"][0], "id": 30}) | {
        "categories": [*CONTENT["categories"], {"id": 4, "name": "dog"}]
    }
    problems = CollectedProblems(thorough=True)
    _listed(tmp_path, content, problems=problems)
    found = {kind["kind"]: [item["detail"] for item in kind["listed"]] for kind in problems.as_dicts()}
    assert found == {
        "duplicate-category-name": ["categories[2] is another 'dog'"],
        "duplicate-image-name": ["2 images are b.jpg: ids 20, 30"],
    }
    quick = CollectedProblems()
    _listed(tmp_path, content, problems=quick)
    assert quick.as_dicts() == []


def test_labels_of_categories(tmp_path):
    lists, _ = _listed(tmp_path)
    labels, unknown = lists.labels_of(_ids(90, 3, 90, None, 7, 4), {90: 5}, [3])
    assert labels.tolist() == [5, NO_LABEL, 5, NO_LABEL, NO_LABEL, NO_LABEL]
    assert unknown == [4, 5]


def test_images_without_annotations(tmp_path):
    lists, _ = _listed(tmp_path)
    places = lists.places_of(_ids(20, None))
    assert list(lists.unannotated(places)) == ["long.jpg"]
    assert list(lists.unannotated(lists.places_of(_ids(10, 20)))) == []


@pytest.mark.parametrize("used", [[], [0]])
def test_the_placeholder_of_roboflow_is_left_out(tmp_path, used):
    """As its exports have it: https://roboflow.com/formats/coco-json."""
    categories = [
        {"id": 0, "name": "vehicles", "supercategory": "none"},
        {"id": 1, "name": "car", "supercategory": "vehicles"},
        {"id": 2, "name": "bus", "supercategory": "vehicles"},
    ]
    lists, _ = _listed(tmp_path, {**CONTENT, "categories": categories})
    found = [category.name for category in lists.categories(used)]
    assert found == (["vehicles", "car", "bus"] if used else ["car", "bus"])


@pytest.mark.parametrize(
    "categories",
    [
        [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 2, "name": "hat", "supercategory": "none"}],
        [{"id": 0, "name": "a", "supercategory": "none"}, {"id": 1, "name": "b", "supercategory": "none"}],
        [{"id": 0, "name": "a", "supercategory": ""}, {"id": 1, "name": "b", "supercategory": "a"}],
        [{"id": 0, "name": "a", "supercategory": None}, {"id": 1, "name": "b", "supercategory": ["a"]}],
    ],
)
def test_other_categories_without_objects_are_kept(tmp_path, categories):
    lists, _ = _listed(tmp_path, {**CONTENT, "categories": categories})
    assert len(lists.categories([])) == 2


@pytest.mark.parametrize("image_id", [[1, 2], None, {"a": 1}, 1.5, True])
def test_an_id_is_a_number_or_a_name(tmp_path, image_id):
    with pytest.raises(DataError, match=r"images\[2\]: id must be a whole number of 64 bits or a text"):
        _listed(tmp_path, _with("images", {**CONTENT["images"][0], "id": image_id}))


def test_names_of_categories_are_texts(tmp_path):
    categories = [{"id": 1, "name": 1}, {"id": 2, "name": 2.5}]
    lists, _ = _listed(tmp_path, {**CONTENT, "categories": categories})
    assert [category.name for category in lists.categories([])] == ["1", "2.5"]
    categories[1]["name"] = None
    with pytest.raises(DataError, match=r"categories\[1\].*the name of a category must be a text of .*, got None"):
        _listed(tmp_path, {**CONTENT, "categories": categories})
