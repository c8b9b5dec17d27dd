# SPDX-License-Identifier: Apache-2.0
"""Labels of two lists are matched by name: equal names first, then spellings that only one name on each side has."""

import pytest
import torch

from tests.inference.reads_colours import SAMPLES
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.label_spaces import MatchedSamples, follow_names, in_label_space, match_labels, match_names
from unisegment.structures import Category

MODEL = {0: "person", 1: "tree-merged", 2: "Traffic Sign (Back)", 3: "Traffic Sign (Front)", 4: "wall"}


def categories(*names):
    return [Category(10 * number, name, True, (1, 2, 3)) for number, name in enumerate(names, 1)]


@pytest.mark.parametrize(
    ("known", "wanted", "places"),
    [
        # Case, signs, endings, and further names.
        (MODEL.values(), ["Wall, walls", "tree", "traffic sign (front)", "PERSON"], [4, 1, 3, 0]),
        (["sky-other-merged", "door-stuff"], ["door;double door", "Sky"], [1, 0]),
        # Equal names go first, whatever else has their key.
        (["floor-other-merged", "floor"], ["floor", "floor-other-merged"], [1, 0]),
        (["vehicle-other", "vehicle"], ["Vehicle"], [1]),
        # Not for certain.
        (["water", "water-other"], ["water-merged"], [None]),
        (["tree-merged"], ["Tree", "tree-other"], [None, None]),
        (["cow"], ["Cow", "COW"], [None, None]),
        (["cow"], ["cow", "Cow"], [0, None]),
        # Of equal names one after the other.
        (["other", "cow", "other"], ["cow", "other", "other", "other"], [1, 0, 2, None]),
        # What looks alike is not the same.
        (["c", "c++", "c#"], ["c#", "C++", "C"], [2, 1, 0]),
        (["1,000", "1,500"], ["1,500"], [1]),
        (["1,000"], ["1,500"], [None]),
        (["汽车", "人", "Straße", "Kühe"], ["人", "汽车", "STRASSE", "Ku\u0308he"], [1, 0, 2, 3]),
        (["", "-", "other"], ["other", "-", ""], [2, 1, 0]),
        (["floor-wood"], ["floor"], [None]),
    ],
)
def test_names_are_matched(known, wanted, places):
    assert match_names([*known], wanted) == places


def test_names_that_say_nothing_are_followed_by_number():
    assert follow_names(["LABEL_0", "LABEL_1"], ["dog", "cow"]) == [0, 1]
    assert follow_names(["LABEL_0", "LABEL_1"], ["dog"]) == [None]
    assert follow_names(["cow", "dog"], ["dog", "cow"]) == [1, 0]
    assert match_names(["LABEL_0", "LABEL_1"], ["dog", "cow"]) == [None, None]


def test_a_name_that_is_not_known_is_an_error_with_both_lists():
    with pytest.raises(
        ValueError,
        match=r"The checkpoint lacks 2 of the 3 labels of the data set: 'cow', 'sheep'\. The checkpoint has 'person', "
        r"'tree-merged', .*, 'wall'; the data set has 'person', 'cow', 'sheep'\. Take the data set",
    ):
        match_labels(MODEL, {0: "person", 1: "cow", 2: "sheep"})
    with pytest.raises(ValueError, match=r"has '0', .*, '19' and 3 more; B has 'a'\. Do it\."):
        match_labels(dict(enumerate(map(str, range(23)))), {0: "a"}, owners=("A", "B"), advice="Do it.")


def test_labels_can_be_matched_by_their_order():
    names = dict(enumerate("abcde"))
    assert match_labels(MODEL, names, "order") == {label: label for label in range(5)}
    with pytest.raises(ValueError, match="has 5 labels and the data set 4"):
        match_labels(MODEL, dict(enumerate("abcd")), "order")


class Samples(AnnotatedImages):
    """The images of another test, whose labels are 0 to 2."""

    left_out = ("one",)
    block_bounds = "bounds"

    def __len__(self):
        return len(SAMPLES)

    def __getitem__(self, index):
        return SAMPLES[index]


class AllCrowds(Samples):
    """Images without an object."""

    def labels_in(self, index):
        return set()


def test_samples_get_the_labels_of_another_list():
    samples = Samples(categories("a", "b", "c"))
    matched = MatchedSamples(samples, categories("c", "x", "a", "b"), {0: 2, 1: 3, 2: 0}, limit=3)
    assert (len(matched), len(MatchedSamples(samples, [], {}))) == (3, len(SAMPLES))
    old, new = SAMPLES[1].target, matched[1].target
    assert old.labels.tolist() == [2, 1, 0]
    assert new.labels.tolist() == [0, 3, 2]
    assert torch.equal(new.id_map, old.id_map)
    assert [matched.labels_in(index) for index in range(3)] == [{0, 2, 3}, {0, 2, 3}, {0, 3}]
    assert MatchedSamples(AllCrowds([]), [], {}).labels_in(0) == set()
    assert (matched.left_out, matched.block_bounds) == (("one",), "bounds")
    assert matched.id2label == {0: "c", 1: "x", 2: "a", 3: "b"}


def test_samples_with_the_same_names_stay_as_they_are():
    samples = AnnotatedImages(categories("cow", "dog"))
    options = {"owners": ("A", "B"), "advice": ""}
    assert in_label_space(samples, categories("cow", "dog"), **options) is samples
    wider = in_label_space(samples, categories("dog", "cat", "cow"), **options)
    assert wider.id2label == {0: "dog", 1: "cat", 2: "cow"}
    with pytest.raises(ValueError, match=r"A lacks 1 of the 2 labels of B: 'dog'\. A has 'cow'; B has 'cow', 'dog'"):
        in_label_space(samples, categories("cow"), **options)
