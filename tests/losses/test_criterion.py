# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import EomtConfig
from transformers.models.eomt.modeling_eomt import EomtLoss

from tests.two_processes import run_in_two_processes
from unisegment.losses.base import NonFiniteLoss
from unisegment.losses.criterion import SetCriterion, loss_denominators
from unisegment.losses.matcher import HungarianMatcher
from unisegment.structures import SegmentationTarget

NUM_PREDICTIONS, NUM_QUERIES, NUM_LABELS, DIM = 3, 7, 4, 5
HEIGHT, WIDTH = 11, 17


def criterion(**overrides):
    keys = {
        "no_object_weight": 0.1, "class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0, "num_points": 60,
        "oversample_ratio": 3.0, "importance_sample_ratio": 0.75, **overrides,
    }  # fmt: skip
    return SetCriterion(HungarianMatcher(2.0, 5.0, 5.0, 60), **keys)


def scene(counts, dtype=torch.float32):
    class_logits = torch.randn(NUM_PREDICTIONS, len(counts), NUM_QUERIES, NUM_LABELS + 1, dtype=dtype)
    mask_embeddings = torch.randn(NUM_PREDICTIONS, len(counts), NUM_QUERIES, DIM, dtype=dtype)
    mask_features = torch.randn(len(counts), DIM, HEIGHT, WIDTH, dtype=dtype)
    targets = [
        SegmentationTarget(labels=torch.randint(NUM_LABELS, (n,)), masks=torch.rand(n, 4 * HEIGHT, 4 * WIDTH) > 0.5)
        for n in counts
    ]
    leaves = [tensor.requires_grad_() for tensor in (class_logits, mask_embeddings, mask_features)]
    return *leaves, targets


def same_points(monkeypatch):
    """Let the points depend on nothing but how many there are."""
    points = {count: torch.rand(1, count, 2) for count in (60, 180, 15)}
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: points[shape[1]].expand(shape[0], -1, -1).clone())


def test_without_targets_only_the_class_term_counts_and_all_inputs_get_gradients():
    class_logits, mask_embeddings, mask_features, targets = scene([0, 0])
    with torch.no_grad():
        class_logits.zero_()
    _, terms = criterion()(class_logits, mask_embeddings, mask_features, targets)
    for name, term in terms.items():
        expected = 2 * math.log(NUM_LABELS + 1) if "cross_entropy" in name else 0
        assert term.item() == pytest.approx(expected), name
    sum(terms.values()).backward()
    assert mask_embeddings.grad.abs().max() == 0
    assert mask_features.grad.abs().max() == 0


def test_terms_are_named_after_their_prediction():
    _, terms = criterion()(*scene([2]))
    kinds = ("loss_cross_entropy", "loss_mask", "loss_dice")
    assert set(terms) == {f"{kind}{suffix}" for kind in kinds for suffix in ("", "_0", "_1")}


def test_the_loss_is_the_sum_of_its_terms_and_so_is_its_gradient():
    *leaves, targets = scene([3, 0, 9])
    loss, terms = criterion()(*leaves, targets)
    summed = torch.stack(list(terms.values())).sum()
    assert torch.equal(loss, summed)
    both = loss + 0.5 * terms["loss_mask_0"] + summed  # counted differently, with what the loss has a share in
    wanted = torch.autograd.grad(2 * summed + 0.5 * terms["loss_mask_0"], leaves, retain_graph=True)
    found = torch.autograd.grad(both, leaves, retain_graph=True)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(total, leaves, retain_graph=True) for total in (loss, summed)]
    torch.testing.assert_close(*gradients)


def test_a_perfect_prediction_costs_almost_nothing_and_only_in_its_own_layer():
    mask = torch.zeros(1, 4 * HEIGHT, 4 * WIDTH, dtype=torch.bool)
    mask[:, :, : 2 * WIDTH] = True
    target = SegmentationTarget(labels=torch.tensor([3]), masks=mask)
    class_logits = torch.zeros(2, 1, 2, NUM_LABELS + 1)
    class_logits[1, 0, 0, 3] = class_logits[1, 0, 1, NUM_LABELS] = 100
    mask_features = torch.full((1, 1, HEIGHT, WIDTH), -100.0)
    mask_features[..., : WIDTH // 2] = 100
    mask_features[..., WIDTH // 2] = 0
    mask_embeddings = torch.ones(2, 1, 2, 1)
    mask_embeddings[0] = -1
    _, terms = criterion()(class_logits, mask_embeddings, mask_features, [target])
    assert terms["loss_cross_entropy"].item() == pytest.approx(0, abs=1e-6)
    assert terms["loss_mask"].item() < 5  # points crowd at the border, where the truth is soft
    assert terms["loss_mask_0"].item() > 50
    assert terms["loss_dice"].item() < 0.5
    assert terms["loss_dice_0"].item() > 4


def test_a_map_for_each_prediction_gives_the_losses_and_gradients_of_transformers_eomt(monkeypatch):
    class_logits, mask_embeddings, features, targets = scene([3, 0, 5])
    maps = [torch.randn_like(features).requires_grad_() for _ in range(NUM_PREDICTIONS)]
    same_points(monkeypatch)
    loss, terms = criterion()(class_logits, mask_embeddings, maps, targets)

    config = EomtConfig(num_labels=NUM_LABELS, train_num_points=60, class_weight=2.0, mask_weight=5.0, dice_weight=5.0)
    config.no_object_weight = 0.1
    theirs = EomtLoss(config, {})
    mask_logits = [torch.einsum("bqc,bchw->bqhw", *of) for of in zip(mask_embeddings, maps, strict=True)]
    labels = [target.masks.float() for target in targets], [target.labels for target in targets]
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    expected = {}
    for t, ending in enumerate(("_0", "_1", "")):
        for name, term in theirs(mask_logits[t], class_logits[t], *labels).items():
            expected[name + ending] = weights[name] * term
    torch.testing.assert_close(terms, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss, sum(expected.values()))
    leaves = [class_logits, mask_embeddings, *maps]
    found, wanted = (torch.autograd.grad(total, leaves) for total in (loss, sum(expected.values())))
    for ours, peers in zip(found, wanted, strict=True):
        assert (ours - peers).abs().max() <= 1e-5 * peers.abs().max()


def test_as_many_maps_as_predictions_or_one():
    class_logits, mask_embeddings, features, targets = scene([3])
    with pytest.raises(ValueError, match="one for each of the 3 predictions, got 2"):
        criterion()(class_logits, mask_embeddings, [features, features], targets)


def test_a_loss_that_is_not_finite_says_its_terms_and_what_touches_every_weight():
    class_logits, mask_embeddings, features, targets = scene([3])
    maps = [features, features * 2, features * math.nan]
    with pytest.raises(NonFiniteLoss, match=r"prediction 2\. Not finite: mask features\.") as caught:
        criterion()(class_logits, mask_embeddings, maps, targets)
    assert list(caught.value.terms) == list(criterion()(class_logits, mask_embeddings, features, targets)[1])
    assert len(caught.value.touching) == 5
    for found, given in zip(caught.value.touching, [class_logits, mask_embeddings, *maps], strict=True):
        assert found is given


def test_surplus_segments_count_in_the_denominator_only():
    num_targets = 3 * NUM_QUERIES
    _, terms = criterion()(*scene([num_targets]))
    denominators = loss_denominators([num_targets], NUM_QUERIES, 0.1)
    assert denominators.tolist() == [num_targets, NUM_QUERIES]
    assert 0 < terms["loss_dice"].item() <= 5 * NUM_QUERIES / num_targets


def test_denominators_by_hand():
    assert loss_denominators([2, 0, 9], num_queries=5, no_object_weight=0.1).tolist() == pytest.approx([11, 7 + 0.8])
    assert loss_denominators([], num_queries=5, no_object_weight=0.1).tolist() == [0, 0]


def test_given_denominators_make_parts_add_up_to_the_whole(monkeypatch):
    class_logits, mask_embeddings, mask_features, targets = scene([3, 1])
    same_points(monkeypatch)
    _, whole = criterion()(class_logits, mask_embeddings, mask_features, targets)
    shared = loss_denominators([3, 1], NUM_QUERIES, 0.1)
    parts = [
        criterion()(
            class_logits[:, i : i + 1],
            mask_embeddings[:, i : i + 1],
            mask_features[i : i + 1],
            targets[i : i + 1],
            shared,
        )[1]
        for i in range(2)
    ]
    for name, term in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], term)


def test_a_seed_repeats_its_points_and_the_next_step_has_others():
    score, arguments = criterion(), scene([3, 5])
    torch.manual_seed(7)
    first, second = (score(*arguments)[1]["loss_mask"] for _ in range(2))
    torch.manual_seed(7)
    assert torch.equal(score(*arguments)[1]["loss_mask"], first)
    assert not torch.isclose(second, first)


class Started(TorchDispatchMode):
    """Counts the operations that would start something on a GPU: those that give more than another view of memory."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and leaf.numel()]
        self.count += bool(made) and not function.is_view and "empty" not in function.name()
        return result


@pytest.mark.parametrize("form", ["masks", "id_map"])
def test_another_image_costs_a_dozen_operations(form):
    """What remains are products of its masks with its features, its random numbers, and its map on the way."""
    found = []
    for images in (2, 6):
        *leaves, targets = scene([3 + image % 4 for image in range(images)])
        if form == "id_map":
            id_map = torch.randint(0, 4, (4 * HEIGHT, 4 * WIDTH))
            targets = [
                SegmentationTarget(labels=torch.tensor([1, 0, 2]), id_map=id_map, segment_ids=torch.tensor([1, 2, 3]))
            ] * images
        with Started() as started:
            criterion()(*leaves, targets)[0].backward()
        found.append(started.count)
    assert (found[1] - found[0]) / 4 <= 12
    assert found[0] < 300


def test_losses_are_float32_for_half_precision_inputs():
    class_logits, mask_embeddings, mask_features, targets = scene([2], torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        _, terms = criterion()(class_logits, mask_embeddings, mask_features, targets)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    sum(terms.values()).backward()
    assert torch.isfinite(mask_features.grad).all()


def _class_terms(rank: int) -> dict[str, float]:
    class_logits, mask_embeddings, mask_features, targets = scene([1] if rank == 0 else [5])
    with torch.no_grad():
        class_logits.zero_()
    return {
        normalization: criterion(normalization=normalization)(class_logits, mask_embeddings, mask_features, targets)[1][
            "loss_cross_entropy"
        ].item()
        for normalization in ("global", "rank")
    }


def test_two_processes_share_denominators(tmp_path):
    found = run_in_two_processes(_class_terms, tmp_path)
    # Equal logits: every query costs ln(5) times its weight, so only the weights and denominators differ.
    weights = {0: 1 + 0.1 * 6, 1: 5 + 0.1 * 2}
    shared = (weights[0] + weights[1]) / 2
    for rank in (0, 1):
        assert found[rank]["global"] == pytest.approx(2 * math.log(5) * weights[rank] / shared, rel=1e-5)
        assert found[rank]["rank"] == pytest.approx(2 * math.log(5), rel=1e-5)
