# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from transformers.models.mask2former.modeling_mask2former import Mask2FormerHungarianMatcher

from unisegment.losses.base import NonFiniteLoss
from unisegment.losses.matcher import HungarianMatcher
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


def same_points(monkeypatch, num_points):
    points = torch.rand(1, num_points, 2)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: points.clone())


@pytest.mark.parametrize("own_maps", [False, True], ids=["one_map", "own_maps"])
def test_pairs_equal_those_of_transformers_for_every_prediction(monkeypatch, own_maps):
    class_logits, mask_embeddings, mask_features, targets = scene([3, 0, 5])
    if own_maps:
        mask_features = list(torch.randn(NUM_PREDICTIONS, 3, DIM, *SIZE))
    same_points(monkeypatch, 97)
    ours = HungarianMatcher(2.0, 5.0, 4.0, 97)(class_logits, mask_embeddings, mask_features, targets)
    peer = Mask2FormerHungarianMatcher(cost_class=2.0, cost_mask=5.0, cost_dice=4.0, num_points=97)
    maps = mask_features if own_maps else mask_features * NUM_PREDICTIONS
    mask_logits = torch.einsum("tbqc,tbchw->tbqhw", mask_embeddings, torch.stack(maps))
    for t in range(NUM_PREDICTIONS):
        theirs = peer(
            mask_logits[t], class_logits[t], [target.masks.float() for target in targets], [x.labels for x in targets]
        )
        for image, (queries, segments) in enumerate(theirs):
            assert ours[image].queries[t].tolist() == queries.tolist()
            assert ours[image].segments[t].tolist() == segments.tolist()


def test_more_segments_than_queries_leave_the_dearest_out():
    class_logits, mask_embeddings, mask_features, targets = scene([12])
    matcher = HungarianMatcher(1.0, 1.0, 1.0, 50)
    matches = matcher(class_logits, mask_embeddings, mask_features, targets)[0]
    assert matches.queries.shape == matches.segments.shape == (NUM_PREDICTIONS, NUM_QUERIES)
    for segments in matches.segments:
        assert len(segments.unique()) == NUM_QUERIES


def test_assignment_is_the_cheapest():
    class_logits, mask_embeddings, mask_features, targets = scene([4])
    matcher = HungarianMatcher(1.0, 2.0, 3.0, 50)
    torch.manual_seed(5)
    matches = matcher(class_logits, mask_embeddings, mask_features, targets)[0]
    torch.manual_seed(5)
    costs = matcher.cost(class_logits[:, 0], mask_embeddings[:, 0], [mask_features[0][0]], targets[0])
    for t in range(NUM_PREDICTIONS):
        queries, segments = linear_sum_assignment(costs[t].numpy())
        assert costs[t][matches.queries[t], matches.segments[t]].sum() == pytest.approx(
            costs[t][queries, segments].sum().item()
        )


def test_costs_are_float32_under_autocast_and_from_half_precision():
    class_logits, mask_embeddings, mask_features, targets = scene([3])
    matcher = HungarianMatcher(1.0, 1.0, 1.0, 50)
    with torch.autocast("cpu", torch.bfloat16):
        cost = matcher.cost(
            class_logits[:, 0].bfloat16(), mask_embeddings[:, 0].bfloat16(), [mask_features[0][0]], targets[0]
        )
    assert cost.dtype == torch.float32


def test_a_map_that_is_not_finite_is_named_after_its_prediction():
    class_logits, mask_embeddings, mask_features, targets = scene([2, 3])
    maps = [mask_features[0].clone() for _ in range(NUM_PREDICTIONS)]
    maps[2][0] = math.nan
    with pytest.raises(NonFiniteLoss, match=r"image 0 .* prediction 2\. Not finite: mask features\."):
        HungarianMatcher(1.0, 1.0, 1.0, 50)(class_logits, mask_embeddings, maps, targets)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_cost_is_named(value):
    class_logits, mask_embeddings, mask_features, targets = scene([2, 3])
    mask_embeddings[1, 1, 4] = value
    matcher = HungarianMatcher(1.0, 1.0, 1.0, 50)
    with pytest.raises(NonFiniteLoss, match=r"image 1 .* prediction 1\. Not finite: mask embeddings\..*learning rate"):
        matcher(class_logits, mask_embeddings, mask_features, targets)


def test_no_targets_at_all():
    matches = HungarianMatcher(1.0, 1.0, 1.0, 50)(*scene([0, 0]))
    assert [tuple(match.queries.shape) for match in matches] == [(NUM_PREDICTIONS, 0)] * 2
