# SPDX-License-Identifier: Apache-2.0
from unisegment.data.categories import label_names, stuff_label_ids
from unisegment.data.export.categories import categories_of_labels, known_ids


def test_labels_of_coco_get_its_ids():
    names = label_names("coco_panoptic")
    categories = categories_of_labels(names, stuff_label_ids(names))
    by_name = {category.name: category for category in categories}
    assert (by_name["person"].id, by_name["toothbrush"].id, by_name["rug-merged"].id) == (1, 90, 200)
    assert (by_name["stop sign"].id, by_name["banner"].id, by_name["tree-merged"].id) == (13, 92, 184)
    assert len({category.id for category in categories}) == 133
    assert sum(category.is_thing for category in categories) == 80
    things = categories_of_labels(label_names("coco_instance"), [])
    assert [category.id for category in things] == [category.id for category in categories[:80]]


def test_cityscapes_and_ade20k():
    categories = categories_of_labels(label_names("cityscapes"), [])
    assert {category.name: category.id for category in categories}["car"] == 26
    assert [category.id for category in categories_of_labels(label_names("ade20k"), [])] == list(range(1, 151))


def test_other_labels_are_numbered_from_1():
    categories = categories_of_labels({0: "disc", 1: "sky"}, [1])
    assert [(category.id, category.name, category.is_thing) for category in categories] == [
        (1, "disc", True),
        (2, "sky", False),
    ]
    assert known_ids(["person", "disc"], "coco_panoptic") is None


def test_names_of_a_data_set_may_be_spelled_in_other_ways():
    assert known_ids(["Tree", "floor", "sky-other", "Traffic_light"], "coco_panoptic") == [184, 190, 187, 10]
    for names, ids in (({0: "tree", 1: "person"}, [184, 1]), ({0: "tree-merged"}, [184])):
        assert [category.id for category in categories_of_labels(names, [])] == ids
    assert [category.id for category in categories_of_labels({0: "wall", 1: "sidewalk"}, [])] == [12, 8]
    # Two names for one.
    assert known_ids(["tree", "tree-merged"], "coco_panoptic") is None


def test_the_models_own_categories_go_first():
    own = [{"id": 0, "name": "person", "isthing": 1}, {"id": 10, "name": "sky", "isthing": 0}]
    found = categories_of_labels({0: "sky", 1: "Person"}, [0], own)
    assert [(category.id, category.name, category.is_thing) for category in found] == [
        (10, "sky", False),
        (0, "Person", True),
    ]
    assert [category.id for category in categories_of_labels({0: "disc", 1: "sky"}, [], own)] == [1, 2]


def test_a_name_that_is_listed_twice_has_no_id():
    assert known_ids(["person", "person"], "coco_panoptic") is None
