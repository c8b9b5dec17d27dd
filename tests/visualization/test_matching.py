# SPDX-License-Identifier: Apache-2.0
"""What is right, missed, false or of the wrong class is what panoptic quality counts."""

import numpy as np
import pytest
import torch

from tests.visualization.pictures import HEIGHT, WIDTH, columns, panoptic_of, target_of
from unisegment.metrics.panoptic_quality import Segments, panoptic_counts
from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget
from unisegment.visualization.drawables import segments_of
from unisegment.visualization.matching import Verdict, match_segments

RIGHT, WRONG, MISSED, FALSE, IGNORED = Verdict


def random_scene(generator, num, num_labels):
    """Return a map of rectangles, 0 for void, and their labels."""
    ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    for number in range(1, num + 1):
        top, left = generator.integers(0, HEIGHT - 9), generator.integers(0, WIDTH - 9)
        height, width = generator.integers(5, 30, 2)
        ids[top : top + height, left : left + width] = number
    return ids, generator.integers(0, num_labels, num).tolist()


def shaken(generator, ids, labels, num_labels):
    """Return another map that mostly agrees."""
    ids = torch.roll(ids, tuple(generator.integers(-2, 3, 2)), (0, 1))
    labels = [label if generator.random() < 0.7 else int(generator.integers(num_labels)) for label in labels]
    ids[torch.from_numpy(generator.random((HEIGHT, 1)) < 0.1).expand_as(ids)] = 0
    return ids, labels


@pytest.mark.parametrize("seed", range(12))
def test_counts_are_those_of_panoptic_quality(seed):
    generator = np.random.default_rng(seed)
    ids, labels = random_scene(generator, 9, 3)
    found_ids, found_labels = shaken(generator, ids, labels, 3)
    # Nobody annotates or finds what has no pixel.
    numbers, found_numbers = (np.array([n for n in one.unique().tolist() if n]) for one in (ids, found_ids))
    is_crowd = numbers == 2
    labels, found_labels = np.array(labels)[numbers - 1], np.array(found_labels)[found_numbers - 1]
    target = SegmentationTarget(labels=labels, id_map=ids, segment_ids=numbers, is_crowd=is_crowd)
    infos = [{"id": n, "label_id": k} for n, k in zip(found_numbers.tolist(), found_labels.tolist(), strict=True)]
    matches = match_segments(segments_of(PanopticPrediction(found_ids, infos)), segments_of(target))
    nothing = np.full(9, np.nan)
    true = Segments(numbers, labels, is_crowd, nothing[: len(numbers)])
    predicted = Segments(found_numbers, found_labels, np.zeros(len(infos), bool), nothing[: len(infos)])
    right, false, missed, _ = panoptic_counts(found_ids.numpy(), predicted, ids.numpy(), true, 3).sum(axis=1)
    assert matches.found.count(RIGHT) == matches.annotated.count(RIGHT) == right
    assert matches.found.count(FALSE) + matches.found.count(WRONG) == false
    assert matches.annotated.count(MISSED) + matches.annotated.count(WRONG) == missed
    assert matches.found.count(WRONG) == matches.annotated.count(WRONG)
    for index, partner in matches.partners.items():
        assert (found_labels[index] == labels[partner]) == (matches.found[index] == RIGHT)


def test_each_kind_of_error_is_found():
    #           right, wrong class, missed (under what is false), void
    target = target_of(columns(20, 40, 60, 70), [0, 1, 2, 3])
    found = columns(20, 40, 45, 70, 83)
    matches = match_segments(segments_of(panoptic_of(found, [0, 7, 2, 5, 3])), segments_of(target))
    assert matches.found == [RIGHT, WRONG, FALSE, FALSE, IGNORED]
    assert matches.annotated == [RIGHT, WRONG, MISSED, MISSED]
    assert matches.partners == {0: 0, 1: 1}


def test_objects_in_the_background_are_false_and_of_two_the_better_is_right():
    masks = torch.stack([columns(20) == 1, columns(21) == 1, columns(60, 80) == 2])
    infos = [{"id": n, "label_id": 0, "score": score} for n, score in enumerate((0.6, 0.9, 0.5), 1)]
    prediction = InstancePrediction(torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), infos, masks)
    matches = match_segments(segments_of(prediction, with_hidden=True), segments_of(target_of(columns(20), [0])))
    assert matches.found == [FALSE, RIGHT, FALSE]


def test_what_lies_in_a_crowd_of_its_label_is_ignored():
    target = target_of(columns(40, 83), [0, 1], crowds=(1,))
    matches = match_segments(segments_of(panoptic_of(columns(10, 20), [0, 1])), segments_of(target))
    assert matches.found == [IGNORED, FALSE]
    assert matches.annotated == [IGNORED, MISSED]
