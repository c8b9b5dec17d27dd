# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from transformers.models.mask2former.modeling_mask2former import Mask2FormerHungarianMatcher

from unisegment.losses.base import NonFiniteLoss
from unisegment.losses.matcher import HungarianMatcher
from unisegment.ops.segment_maps import join_targets
from unisegment.structures import SegmentationTarget

NUM_PREDICTIONS, NUM_QUERIES, NUM_LABELS, DIM = 3, 7, 4, 5
SIZE = (11, 17)


def scene(counts):
    batch_size = len(counts)
    class_logits = torch.randn(NUM_PREDICTIONS, batch_size, NUM_QUERIES, NUM_LABELS + 1)
    mask_embeddings = torch.randn(NUM_PREDICTIONS, batch_size, NUM_QUERIES, DIM)
    mask_features = torch.randn(batch_size, DIM, *SIZE)
    targets = [
        SegmentationTarget(labels=torch.randint(NUM_LABELS, (n,)), masks=torch.rand(n, 4 * SIZE[0], 4 * SIZE[1]) > 0.5)
        for n in counts
    ]
    return class_logits, mask_embeddings, [mask_features], targets


def joined(targets):
    return join_targets(targets, torch.device("cpu"))


def same_points(monkeypatch, num_points):
    points = torch.rand(1, num_points, 2)
    monkeypatch.setattr(torch, "rand", lambda images, *shape, **_: points.repeat(images, 1, 1))


def of_each_image(matches, targets):
    """Return the pairs of each image, (t i) queries and segments of its own."""
    sizes = [NUM_PREDICTIONS * count for count in matches.counts]
    parts = zip(matches.queries.split(sizes), matches.segments.split(sizes), strict=True)
    found, first = [], 0
    for image, ((queries, segments), target) in enumerate(zip(parts, targets, strict=True)):
        queries, segments = (part.view(NUM_PREDICTIONS, -1) for part in (queries, segments))
        starts = (torch.arange(NUM_PREDICTIONS)[:, None] * len(targets) + image) * NUM_QUERIES
        found.append((queries - starts, segments - first))
        first += len(target)
    return found


@pytest.mark.parametrize("max_elements", [None, 400, 1])
@pytest.mark.parametrize("own_maps", [False, True], ids=["one_map", "own_maps"])
def test_pairs_equal_those_of_transformers_for_every_prediction(monkeypatch, own_maps, max_elements):
    class_logits, mask_embeddings, mask_features, targets = scene([3, 0, 5, 1])
    if own_maps:
        mask_features = list(torch.randn(NUM_PREDICTIONS, 4, DIM, *SIZE))
    same_points(monkeypatch, 97)
    matcher = HungarianMatcher(2.0, 5.0, 4.0, 97)
    ours = matcher(class_logits, mask_embeddings, mask_features, joined(targets), max_elements)
    peer = Mask2FormerHungarianMatcher(cost_class=2.0, cost_mask=5.0, cost_dice=4.0, num_points=97)
    maps = mask_features if own_maps else mask_features * NUM_PREDICTIONS
    mask_logits = torch.einsum("tbqc,tbchw->tbqhw", mask_embeddings, torch.stack(maps))
    for t in range(NUM_PREDICTIONS):
        theirs = peer(
            mask_logits[t], class_logits[t], [target.masks.float() for target in targets], [x.labels for x in targets]
        )
        for (queries, segments), (their_queries, their_segments) in zip(
            of_each_image(ours, targets), theirs, strict=True
        ):
            assert queries[t].tolist() == their_queries.tolist()
            assert segments[t].tolist() == their_segments.tolist()


@pytest.mark.parametrize("counts", [(3, 0, 5, 1), (0, 0), (12, 2)])
def test_costs_do_not_depend_on_how_many_images_are_compared_at_a_time(counts):
    *values, targets = scene(counts)
    matcher, found = HungarianMatcher(1.0, 2.0, 3.0, 50), []
    for max_elements in (10**9, 3000, 1):  # all images, some, and a row at a time
        torch.manual_seed(5)
        found.append([torch.from_numpy(cost) for cost in matcher.costs(*values, joined(targets), max_elements)])
    assert [cost.shape for cost in found[0]] == [(NUM_PREDICTIONS, NUM_QUERIES, count) for count in counts]
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_more_segments_than_queries_leave_the_dearest_out():
    class_logits, mask_embeddings, mask_features, targets = scene([12])
    matcher = HungarianMatcher(1.0, 1.0, 1.0, 50)
    matches = matcher(class_logits, mask_embeddings, mask_features, joined(targets))
    assert matches.counts == [NUM_QUERIES]
    ((_, chosen),) = of_each_image(matches, targets)
    for segments in chosen:
        assert len(segments.unique()) == NUM_QUERIES


def test_assignment_is_the_cheapest():
    *values, targets = scene([4, 2])
    matcher = HungarianMatcher(1.0, 2.0, 3.0, 50)
    torch.manual_seed(5)
    pairs = of_each_image(matcher(*values, joined(targets)), targets)
    torch.manual_seed(5)
    for (queries, segments), costs in zip(pairs, matcher.costs(*values, joined(targets)), strict=True):
        for t in range(NUM_PREDICTIONS):
            cheapest = costs[t][linear_sum_assignment(costs[t])].sum()
            assert costs[t][queries[t], segments[t]].sum() == pytest.approx(cheapest)


def test_costs_are_float32_under_autocast_and_from_half_precision():
    class_logits, mask_embeddings, mask_features, targets = scene([3])
    matcher = HungarianMatcher(1.0, 1.0, 1.0, 50)
    with torch.autocast("cpu", torch.bfloat16):
        (cost,) = matcher.costs(class_logits.bfloat16(), mask_embeddings.bfloat16(), mask_features, joined(targets))
    assert cost.dtype == np.float32


def test_a_map_that_is_not_finite_is_named_after_its_prediction():
    class_logits, mask_embeddings, mask_features, targets = scene([2, 3])
    maps = [mask_features[0].clone() for _ in range(NUM_PREDICTIONS)]
    maps[2][0] = math.nan
    with pytest.raises(NonFiniteLoss, match=r"image 0 .* prediction 2\. Not finite: mask features\."):
        HungarianMatcher(1.0, 1.0, 1.0, 50)(class_logits, mask_embeddings, maps, joined(targets))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_cost_is_named(value):
    class_logits, mask_embeddings, mask_features, targets = scene([2, 3])
    mask_embeddings[1, 1, 4] = value
    matcher = HungarianMatcher(1.0, 1.0, 1.0, 50)
    with pytest.raises(NonFiniteLoss, match=r"image 1 .* prediction 1\. Not finite: mask embeddings\..*learning rate"):
        matcher(class_logits, mask_embeddings, mask_features, joined(targets))


def test_no_targets_at_all():
    *values, targets = scene([0, 0])
    matches = HungarianMatcher(1.0, 1.0, 1.0, 50)(*values, joined(targets))
    assert (len(matches.queries), len(matches.segments), matches.counts) == (0, 0, [0, 0])
