# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from tests.inference.reads_colours import SAMPLES
from unisegment.inference.labels import MatchedSamples, match_labels

MODEL = {0: "person", 1: "tree-merged", 2: "Traffic Sign (Back)", 3: "Traffic Sign (Front)", 4: "wall"}


def test_equal_names_match_whatever_their_order_and_signs():
    names = {0: "Wall, walls", 1: "tree merged", 2: "traffic sign (front)", 3: "PERSON"}
    assert match_labels(MODEL, names) == {0: 4, 1: 1, 2: 3, 3: 0}


def test_a_name_that_the_checkpoint_lacks_is_an_error():
    with pytest.raises(
        ValueError, match=r"lacks 2 of the data set's 3 labels, such as 'cow', 'sheep'; it has 5: person"
    ):
        match_labels(MODEL, {0: "person", 1: "cow", 2: "sheep"})


def test_labels_can_be_matched_by_their_order():
    names = dict(enumerate("abcde"))
    assert match_labels(MODEL, names, "order") == {label: label for label in range(5)}
    with pytest.raises(ValueError, match="has 5 labels and the data set 4"):
        match_labels(MODEL, dict(enumerate("abcd")), "order")


def test_of_equal_names_the_first_label_counts():
    assert match_labels({0: "other", 1: "other"}, {0: "other"}) == {0: 0}


def test_samples_get_the_labels_of_the_checkpoint():
    matched = MatchedSamples(SAMPLES, {0: 5, 1: 4, 2: 0}, limit=3)
    assert len(matched) == 3
    assert len(MatchedSamples(SAMPLES, {})) == len(SAMPLES)
    old, new = SAMPLES[1].target, matched[1].target
    assert new.labels.tolist() == [{0: 5, 1: 4, 2: 0}[label] for label in old.labels.tolist()]
    assert torch.equal(new.id_map, old.id_map)
