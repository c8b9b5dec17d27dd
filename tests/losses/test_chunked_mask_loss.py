# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.models.mask2former import modeling_mask2former as peer

from unisegment.losses import chunked_mask_loss
from unisegment.losses.chunked_mask_loss import MaskRules
from unisegment.losses.criterion import SetCriterion
from unisegment.losses.mask_losses import MAX_ELEMENTS
from unisegment.losses.matcher import HungarianMatcher, Matches
from unisegment.ops.point_sampling import uncertain_points
from unisegment.ops.segment_maps import join_targets
from unisegment.structures import SegmentationTarget

NUM_PREDICTIONS, NUM_QUERIES, DIM = 3, 7, 5
HEIGHT, WIDTH = 11, 17
RULES = MaskRules(2.0, 5.0, 60, 3.0, 0.75)
COUNTS = (4, 0, 9)
"""Segments of each image: of the last one there are more than queries."""


def target_of(num_segments, form="masks", height=4 * HEIGHT, width=4 * WIDTH):
    """Return segments that do not overlap."""
    ids = torch.arange(num_segments) + 3
    id_map = torch.randint(0, num_segments + 3, (height // 4, width // 4)).repeat_interleave(4, 0)
    target = SegmentationTarget(
        labels=torch.arange(num_segments) % 4, id_map=id_map.repeat_interleave(4, 1), segment_ids=ids
    )
    return target if form == "id_map" else SegmentationTarget(labels=target.labels, masks=target.binary_masks())


def scene(counts=COUNTS, dtype=torch.float64):
    """Return embeddings, features, targets, and pairs by chance: of each image queries and segments, (t i)."""
    embeddings = torch.randn(NUM_PREDICTIONS, len(counts), NUM_QUERIES, DIM, dtype=dtype, requires_grad=True)
    features = torch.randn(len(counts), DIM, HEIGHT, WIDTH, dtype=dtype, requires_grad=True)
    targets = [target_of(count, ("masks", "id_map")[image % 2]) for image, count in enumerate(counts)]

    def drawn(number, count):
        return torch.stack([torch.randperm(number)[:count] for _ in range(NUM_PREDICTIONS)])

    pairs = [min(count, NUM_QUERIES) for count in counts]
    matches = [(drawn(NUM_QUERIES, i), drawn(n, i)) for i, n in zip(pairs, counts, strict=True)]
    return embeddings, features, targets, matches


def losses_of(mask_embeddings, mask_features, targets, pairs, rules, seed):
    maps = mask_features if isinstance(mask_features, list) else [mask_features]
    return both_losses(mask_embeddings, maps, targets, pairs, rules, seed).single


def both_losses(mask_embeddings, maps, targets, pairs, rules, seed):
    segments, num_predictions = join_targets(targets, torch.device("cpu")), len(mask_embeddings)
    starts = torch.arange(num_predictions)[:, None] * len(targets)
    queries = [(own + (starts + image) * NUM_QUERIES).flatten() for image, (own, _) in enumerate(pairs)]
    chosen = [(own + first).flatten() for (_, own), first in zip(pairs, segments.starts, strict=False)]
    matches = Matches(torch.cat(queries), torch.cat(chosen), [own.shape[1] for own, _ in pairs])
    return chunked_mask_loss.matched_mask_losses(mask_embeddings, maps, segments, matches, rules, seed)


def all_at_once(mask_embeddings, mask_features, targets, matches):
    """Return what every mask at once, transformers' losses of float masks, and torch's own derivatives give."""
    sums = []
    maps = mask_features if isinstance(mask_features, list) else [mask_features] * len(mask_embeddings)
    for t, (embeddings, features) in enumerate(zip(mask_embeddings, maps, strict=True)):
        chosen = [own[queries[t]] for own, (queries, _) in zip(embeddings, matches, strict=True)]
        logits = torch.cat([torch.einsum("ic,chw->ihw", *of) for of in zip(chosen, features, strict=True)])
        true_masks = [
            target.binary_masks()[segments[t]] for target, (_, segments) in zip(targets, matches, strict=True)
        ]
        points = uncertain_points(logits.detach(), *RULES[2:5])
        sampled, labels = (
            peer.sample_point(masks[:, None], points, align_corners=False)[:, 0]
            for masks in (logits, torch.cat(true_masks).to(logits.dtype))
        )
        sums.append([2 * peer.sigmoid_cross_entropy_loss(sampled, labels, 1), 5 * peer.dice_loss(sampled, labels, 1)])
    return torch.stack([torch.stack(of) for of in sums], dim=1)


@pytest.fixture
def same_points(monkeypatch):
    """Let the points depend on nothing but how many there are, and be as exact as the scene."""
    torch.set_default_dtype(torch.float64)
    points = {count: torch.rand(1, count, 2) for count in (15, 180)}
    monkeypatch.setattr(torch, "rand", lambda masks, count, two, **_: points[count].repeat(masks, 1, 1))
    yield
    torch.set_default_dtype(torch.float32)


def maps_of_their_own(features):
    """Return a map for each prediction."""
    return [torch.randn_like(features).requires_grad_() for _ in range(NUM_PREDICTIONS)]


@pytest.mark.usefixtures("same_points")
@pytest.mark.parametrize("own_maps", [False, True], ids=["one_map", "own_maps"])
@pytest.mark.parametrize("in_the_sum", [True, False], ids=["scaled", "again"])
@pytest.mark.parametrize("pairs_at_a_time", [1, 4, 5, 40, 1000])
def test_losses_and_gradients_are_those_of_all_masks_at_once(pairs_at_a_time, in_the_sum, own_maps):
    rules = RULES._replace(max_elements=pairs_at_a_time * HEIGHT * WIDTH)
    embeddings, features, targets, matches = scene()
    features = maps_of_their_own(features) if own_maps else features
    leaves = [embeddings, *(features if own_maps else [features])]
    losses = losses_of(embeddings, features, targets, matches, rules, seed=3)
    expected = all_at_once(embeddings, features, targets, matches)
    torch.testing.assert_close(losses, expected)
    upstream = torch.full_like(losses, 7.0) if in_the_sum else torch.randn_like(losses)
    wanted = torch.autograd.grad(expected, leaves, upstream)
    for _ in range(2):
        found = torch.autograd.grad(losses, leaves, upstream, retain_graph=True)
        torch.testing.assert_close(found, wanted)


@pytest.mark.usefixtures("same_points")
def test_a_map_for_each_prediction_is_a_call_for_each_with_its_map():
    embeddings, features, targets, matches = scene()
    maps = maps_of_their_own(features)
    losses = losses_of(embeddings, maps, targets, matches, RULES, seed=3)
    upstream = torch.randn_like(losses)
    found = torch.autograd.grad(losses, [embeddings, *maps], upstream)
    for t, own_map in enumerate(maps):
        own = [(queries[t : t + 1], segments[t : t + 1]) for queries, segments in matches]
        single = losses_of(embeddings[t : t + 1], own_map, targets, own, RULES, seed=3)
        torch.testing.assert_close(losses[:, t : t + 1], single)
        wanted = torch.autograd.grad(single, [embeddings, own_map], upstream[:, t : t + 1])
        torch.testing.assert_close((found[0][t], found[1 + t]), (wanted[0][t], wanted[1]))


def test_gradients_lie_in_memory_as_the_maps_do():
    embeddings, features, targets, matches = scene()
    found = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        maps = features.detach().clone(memory_format=memory_format).requires_grad_()
        losses_of(embeddings, maps, targets, matches, RULES, 3).sum().backward()
        assert maps.grad.is_contiguous(memory_format=memory_format)
        found.append(maps.grad)
    torch.testing.assert_close(*found)


def test_a_frozen_map_among_others_gets_no_gradient():
    embeddings, features, *pairs = scene()
    maps = maps_of_their_own(features)
    wanted = torch.autograd.grad(losses_of(embeddings, maps, *pairs, RULES, seed=3).sum(), maps)
    maps[1].requires_grad_(False)
    losses_of(embeddings, maps, *pairs, RULES, seed=3).sum().backward()
    assert maps[1].grad is None
    assert torch.equal(maps[0].grad, wanted[0])
    assert torch.equal(maps[2].grad, wanted[2])


def test_masks_are_made_once_when_all_losses_count_alike(monkeypatch):
    passes = []
    losses = chunked_mask_loss._Pairs.losses
    monkeypatch.setattr(chunked_mask_loss._Pairs, "losses", lambda *args: passes.append(1) or losses(*args))
    embeddings, features, *pairs = scene()
    first, last = losses_of(embeddings, features, *pairs, RULES, seed=3)
    (3.0 * torch.cat([first, last])).sum().backward(retain_graph=True)
    assert len(passes) == 1
    (first.sum() + 2 * last.sum()).backward()
    assert len(passes) == 2


def test_a_sum_is_known_without_a_look_at_how_much_each_loss_counts(monkeypatch):
    embeddings, features, *pairs = scene()
    to_sum, single = both_losses(embeddings, [features], *pairs, RULES, seed=3)
    assert torch.equal(to_sum, single)
    wanted = torch.autograd.grad(7.0 * single.sum(), [embeddings, features], retain_graph=True)
    with NumbersRead() as read:
        found = torch.autograd.grad(7.0 * to_sum.sum(), [embeddings, features], retain_graph=True)
        assert read.count == 0
    torch.testing.assert_close(found, wanted)


def test_derivatives_are_those_of_the_function():
    embeddings, features, *pairs = scene((3, 1))
    everywhere = MaskRules(2.0, 5.0, 13, 1.0, 0.0, 2 * HEIGHT * WIDTH)  # a choice by certainty jumps
    assert torch.autograd.gradcheck(
        lambda *leaves: losses_of(*leaves, *pairs, everywhere, seed=3), (embeddings, features), fast_mode=True
    )


def test_the_seed_decides_about_the_points():
    arguments = scene()
    first, again, other = (losses_of(*arguments, RULES, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()


def test_random_numbers_of_others_do_not_reach_the_gradient():
    embeddings, features, *pairs = scene()
    losses = losses_of(embeddings, features, *pairs, RULES, seed=3).sum()
    before = torch.autograd.grad(losses, features, retain_graph=True)
    torch.rand(7)
    state = torch.get_rng_state()
    assert torch.equal(torch.autograd.grad(losses, features)[0], before[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32_whatever_the_autocast(dtype):
    embeddings, features, *pairs = scene(dtype=dtype)
    unlike = torch.tensor([[1.0], [2.0]])  # the backward pass computes, too
    with torch.autocast("cpu", dtype):
        losses = losses_of(embeddings, features, *pairs, RULES, seed=3)
        (losses * unlike).sum().backward()
    exact = [leaf.detach().float().requires_grad_() for leaf in (embeddings, features)]
    expected = losses_of(*exact, *pairs, RULES, seed=3)
    torch.testing.assert_close(losses, expected, rtol=0, atol=0)
    for leaf, wanted in zip((embeddings, features), torch.autograd.grad((expected * unlike).sum(), exact), strict=True):
        assert leaf.grad.dtype == dtype
        torch.testing.assert_close(leaf.grad, wanted.to(dtype))


@pytest.mark.parametrize("frozen", [0, 1])
def test_one_of_the_two_can_be_frozen(frozen):
    *leaves, targets, matches = scene()
    both = torch.autograd.grad(losses_of(*leaves, targets, matches, RULES, seed=3).sum(), leaves)
    leaves[frozen].requires_grad_(False)
    losses_of(*leaves, targets, matches, RULES, seed=3).sum().backward()
    assert leaves[frozen].grad is None
    assert torch.equal(leaves[1 - frozen].grad, both[1 - frozen])


def test_no_pairs_cost_nothing():
    embeddings, features, *pairs = scene((0, 0))
    losses = losses_of(embeddings, features, *pairs, RULES, seed=3)
    assert losses.shape == (2, NUM_PREDICTIONS)
    losses.sum().backward()
    for tensor in (losses, embeddings.grad, features.grad):
        assert tensor.count_nonzero() == 0


def score(target, num_queries, num_predictions=1, dim=4, max_elements=None, own_maps=False):
    """Match and score one image, forward and backward, with the numbers of points of the paper."""
    height, width = target.size
    logits = torch.randn(num_predictions, 1, num_queries, 5, requires_grad=True)
    embeddings = torch.randn(num_predictions, 1, num_queries, dim, requires_grad=True)
    maps = [
        torch.randn(1, dim, height // 4, width // 4, requires_grad=True) for _ in range(num_predictions * own_maps or 1)
    ]
    weights = {"no_object_weight": 0.1, "class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0}
    criterion = SetCriterion(
        HungarianMatcher(2.0, 5.0, 5.0, 12544),
        **weights, num_points=12544, oversample_ratio=3.0, importance_sample_ratio=0.75,
        max_elements=max_elements,
    )  # fmt: skip
    criterion(logits, embeddings, maps if own_maps else maps[0], [target])[0].backward()


class NumbersRead(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


class LargestFloat(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        floats = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
        self.elements = max([self.elements, *(leaf.numel() for leaf in floats)])
        return result


def test_what_is_held_at_a_time_can_be_asked_for():
    """What remains are the points of the true masks, at which an image is matched."""
    target, found = target_of(53, "id_map", 272, 368), []
    for max_elements in (100_000, None):
        with LargestFloat() as largest:
            score(target, num_queries=60, max_elements=max_elements)
        found.append(largest.elements)
    assert found[0] == 53 * 12544 < found[1]
    with pytest.raises(ValueError, match="max_elements must be at least 1, or None for what suits the device, got 0"):
        score(target_of(3, "id_map", 32, 32), num_queries=5, max_elements=0)


@pytest.mark.parametrize("predictions", [{}, {"num_predictions": 3, "own_maps": True}], ids=["one_map", "own_maps"])
@pytest.mark.parametrize("form", ["id_map", "masks"])
def test_no_float_mask_of_all_segments_exists(form, predictions):
    target = target_of(53, form, 272, 368)
    with LargestFloat() as largest:
        score(target, num_queries=60, **predictions)
    assert 272 * 368 / 16 < largest.elements <= MAX_ELEMENTS.cpu < 53 * 272 * 368


def peak_of(num_segments):
    """Return the most bytes that torch's allocator handed out."""
    target = target_of(num_segments, "id_map", 2048, 2048)
    # `acc_events`: torch 2.10 warns without.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        score(target, num_queries=512)
    live, peak = 0, 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_segments():
    few, many = peak_of(20), peak_of(500)
    assert few > 2 * 4 * 2**22  # a chunk of masks and of their gradients
    assert many - few <= 64e6
