# SPDX-License-Identifier: Apache-2.0
"""Things and stuff are told apart by the names of labels, as the original code and the Hub write them."""

import pytest

from unisegment.data.categories import (
    ADE20K,
    CITYSCAPES,
    COCO_PANOPTIC,
    MAPILLARY_VISTAS,
    label_key,
    label_names,
    stuff_label_ids,
)


def _labels(table):
    return dict(enumerate(table))


@pytest.mark.parametrize(
    ("table", "num_things", "num_stuff", "places"),
    [
        (COCO_PANOPTIC, 80, 53, {0: "person", 79: "toothbrush", 80: "banner", 116: "tree-merged", 132: "rug-merged"}),
        (ADE20K, 100, 50, {0: "wall", 8: "windowpane", 12: "person", 141: "crt screen", 149: "flag"}),
        (CITYSCAPES, 8, 11, {0: "road", 10: "sky", 11: "person", 18: "bicycle"}),
        (MAPILLARY_VISTAS, 37, 28, {0: "Bird", 1: "Ground Animal", 37: "CCTV Camera", 64: "Ego Vehicle"}),
    ],
)
def test_tables_are_those_of_the_data_sets(table, num_things, num_stuff, places):
    assert len(table) == num_things + num_stuff
    assert sum(table.values()) == num_things
    names = list(table)
    assert {place: names[place] for place in places} == places


@pytest.mark.parametrize("table", [COCO_PANOPTIC, ADE20K, CITYSCAPES, MAPILLARY_VISTAS])
def test_no_two_labels_of_a_data_set_have_one_key(table):
    assert len({label_key(name) for name in table}) == len(table)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("tree", ["tree", "Tree", "tree-merged", " tree_merged ", "tree, trees", "tree;arbre"]),
        ("sky", ["sky-other-merged", "Sky stuff"]),
        ("traffic sign (back)", ["Traffic Sign (Back)", "traffic-sign_(back)"]),
        ("c++", ["C++"]),
        ("1,000", ["1,000"]),
        ("other", ["other", "-other", "Other-merged"]),
        ("汽车", ["汽车"]),
        ("strasse", ["Straße", "STRASSE"]),
        ("kühe", ["K\u00fche", "Ku\u0308he"]),
        ("-", ["-"]),
        (", merged", [", merged"]),
    ],
)
def test_spellings_of_one_name_have_one_key(key, names):
    assert {label_key(name) for name in names} == {key}


@pytest.mark.parametrize("table", [COCO_PANOPTIC, ADE20K, CITYSCAPES, MAPILLARY_VISTAS])
def test_a_data_set_is_recognised(table):
    assert stuff_label_ids(_labels(table)) == [label for label, name in enumerate(table) if not table[name]]
    shouted = {label: name.upper().replace(" ", "_") for label, name in enumerate(table)}
    assert stuff_label_ids(shouted) == stuff_label_ids(_labels(table))
    things = [name for name in table if table[name]]
    assert stuff_label_ids(_labels(things)) == []


def test_the_stuff_of_coco_is_behind_its_things():
    assert stuff_label_ids(_labels(COCO_PANOPTIC)) == list(range(80, 133))
    assert stuff_label_ids({0: "sky", 1: "door", 2: "person", 3: "tree", 4: "zebra"}) == [0, 1, 3]


def test_names_of_the_original_ade20k_are_recognised():
    original = {
        0: "wall",
        6: "road, route",
        8: "window ",
        40: "base, pedestal, stand",
        44: "chest of drawers, chest, bureau, dresser",
        63: "blind, screen",
        87: "street lamp",
        89: "tv",
        109: "pool",
        113: "falls",
        138: "trash can",
    }
    assert stuff_label_ids(original) == [0, 6, 40, 63, 109, 113]
    hub = list(ADE20K)
    assert [ADE20K[hub[label]] for label in original] == [label not in [0, 6, 40, 63, 109, 113] for label in original]


@pytest.mark.parametrize(
    "id2label",
    [
        {},
        {0: "LABEL_0", 1: "LABEL_1"},
        {0: "person", 1: "forklift"},
        # Stuff in Cityscapes, a thing in ADE20K.
        {0: "fence"},
    ],
)
def test_other_names_are_not_recognised(id2label):
    assert stuff_label_ids(id2label) is None


@pytest.mark.parametrize(
    ("dataset", "count", "first", "last"),
    [
        ("coco_panoptic", 133, "person", "rug-merged"),
        ("coco_instance", 80, "person", "toothbrush"),
        ("ade20k", 150, "wall", "flag"),
        ("ade20k_instance", 100, "bed", "flag"),
        ("cityscapes", 19, "road", "bicycle"),
        ("cityscapes_instance", 8, "person", "bicycle"),
        ("mapillary_vistas", 65, "Bird", "Ego Vehicle"),
    ],
)
def test_names_of_labels_in_order(dataset, count, first, last):
    names = label_names(dataset)
    assert list(names) == list(range(count))
    assert (names[0], names[count - 1]) == (first, last)
    stuff = stuff_label_ids(names)
    assert (stuff == []) is dataset.endswith("_instance")


def test_names_in_a_file(tmp_path):
    for content in ('["a", "b"]', '{"1": "b", "0": "a"}', '{"id2label": {"0": "a", "1": "b"}, "other": 1}'):
        (tmp_path / "names.json").write_text(content)
        assert list(label_names(str(tmp_path / "names.json")).items()) == [(0, "a"), (1, "b")]
    (tmp_path / "names.json").write_text('{"1": "a", "2": "b"}')
    with pytest.raises(ValueError, match=r"must name the labels 0, 1, 2, … without a gap, got \[1, 2\]"):
        label_names(str(tmp_path / "names.json"))
    (tmp_path / "names.json").write_text('["a", null]')
    with pytest.raises(ValueError, match=r"the name of a category must be a text of .*, got None"):
        label_names(str(tmp_path / "names.json"))
    for key in ("images", "9" * 5000):
        (tmp_path / "names.json").write_text(f'{{"{key}": "a"}}')
        with pytest.raises(
            ValueError, match=r"names\.json must name the labels 0, 1, .*: the key .* is no whole number"
        ):
            label_names(str(tmp_path / "names.json"))
    with pytest.raises(FileNotFoundError, match=r"none\.json: there is no such file\.$"):  # and none of annotations
        label_names(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match=r"no label names for 'imagenet', only for coco_panoptic, .* and \.json files"):
        label_names("imagenet")
