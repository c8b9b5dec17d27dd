# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.inference.reads_colours import SAMPLES, make_predictor
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.inference.labels import match_data_set
from unisegment.structures import Category


class Few(AnnotatedImages):
    """The images of a list."""

    def __len__(self):
        return len(SAMPLES)

    def __getitem__(self, index):
        return SAMPLES[index]


def data_set(*categories):
    return Few([Category(number, name, is_thing, (0, 0, 0)) for number, name, is_thing in categories])


def test_categories_that_a_data_set_lacks_keep_their_ids_where_these_are_free():
    # The checkpoint knows discs as 11 and the sky as 30; 20 are its rings.
    _, matched = match_data_set(make_predictor(), data_set((20, "sky", False), (40, "disc", True)))
    assert [(category.id, category.name) for category in matched.categories] == [
        *((40, "disc"), (42, "ring"), (20, "sky"))
    ]


def test_what_is_stuff_the_data_set_says_and_the_predictor_it_came_from_stays():
    before = make_predictor(top_k=7)
    predictor, _ = match_data_set(before, data_set((1, "sky", True), (2, "ring", False)))
    assert predictor.stuff_label_ids == {1}
    assert before.stuff_label_ids == {2}
    assert (predictor.model, predictor.top_k) == (before.model, 7)


def test_labels_are_the_checkpoints_and_some_images_may_be_left():
    _, matched = match_data_set(
        make_predictor(), data_set((1, "sky", False), (2, "ring", True), (3, "disc", True)), limit=2
    )
    assert len(matched) == 2
    assert matched[1].target.labels.tolist() == [2 - label for label in SAMPLES[1].target.labels]
    _, in_order = match_data_set(
        make_predictor(), data_set((1, "a", True), (2, "b", True), (3, "c", False)), matching="order"
    )
    assert in_order[1].target.labels.tolist() == SAMPLES[1].target.labels.tolist()


def test_labels_that_the_checkpoint_lacks_are_an_error():
    with pytest.raises(ValueError, match=r"lacks 1 of the 1 labels .*'cow'"):
        match_data_set(make_predictor(), data_set((1, "cow", True)))
