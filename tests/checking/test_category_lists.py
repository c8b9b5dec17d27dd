# SPDX-License-Identifier: Apache-2.0
"""Categories of held-out images are compared with those that are learned, by name."""

from unisegment.checking.category_lists import note_category_lists
from unisegment.checking.opening import OpenedPart, Part
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.problems import CollectedProblems
from unisegment.runs.data_recipe import DataRecipe
from unisegment.structures import Category


def part(split, *categories, root="r"):
    samples = AnnotatedImages([Category(number, name, is_thing, (0, 0, 0)) for number, name, is_thing in categories])
    return OpenedPart(Part(DataRecipe(root=root), split), samples), CollectedProblems()


def found(item):
    return [(kind["kind"], line["file"], line["detail"]) for kind in item[1].as_dicts() for line in kind["listed"]]


def test_parts_are_compared_with_what_is_learned():
    train = part("train", (1, "cow", True), (2, "dog", True), (7, "tree-merged", False))
    same = part("test", (1, "cow", True), (2, "dog", True), (7, "tree-merged", False))
    val = part("val", (1, "dog", True), (2, "cow", False), (9, "pig", True))
    elsewhere = part("val", (1, "pig", True), root="q")
    broken = OpenedPart(Part(DataRecipe(root="r"), "val"), None), CollectedProblems()
    note_category_lists([val, train, same, elsewhere, broken])
    assert found(train) == found(same) == found(elsewhere) == found(broken) == []
    assert found(val) == [
        ("category-not-learned", "r: val", "pig (id 9): r: train has cow, dog, tree-merged"),
        ("categories-differ", "r: val", "dog (id 1, thing) is dog (id 2, thing) in r: train"),
        ("categories-differ", "r: val", "cow (id 2, stuff) is cow (id 1, thing) in r: train"),
        ("categories-differ", "r: val", "there is no tree-merged (id 7), which is a category in r: train"),
    ]
