# SPDX-License-Identifier: Apache-2.0
"""transformers' Eomt beside ours: the same weights, losses and annealing in the same loop."""

import copy
import json
from collections import Counter

import pytest
import torch
from transformers import EomtForUniversalSegmentation

from tests.benchmarks.peer_pairs import PEERS, build_pair, fit_peer, shared_keys
from tests.models.eomt.tiny_config import CONFIG
from tests.models.model_tester import assert_close_in_scale, same_points
from tests.training.tiny_run import RECIPE, log_of
from unisegment.models.base import FAMILIES
from unisegment.runs.recipe import OptimRecipe, load_recipe
from unisegment.runs.settings import parse_yaml
from unisegment.training.assembly import open_batches
from unisegment.training.optimization import parameter_groups

FAMILY = PEERS["unisegment_eomt"]


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(FAMILIES._others, FAMILY.model_type, FAMILY)


@pytest.fixture
def square(scenes, tmp_path):
    """A recipe whose images are on the square that transformers' model is made for, as `training_peers.py` has them."""
    values = parse_yaml(RECIPE.format(root=scenes, output=tmp_path / "run"), "recipe")
    values["data"] |= {"shortest_edge": 128, "longest_edge": 160}
    values["model"] = {"type": "unisegment_eomt", "config": CONFIG}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(values))
    path.write_text(load_recipe(path, shared_keys(load_recipe(path))).to_yaml())
    return path


def pair(recipe, **keys):
    """Return our model and the peer, and a batch of the recipe's data."""
    ours, peer, loaded, samples, processor = build_pair(recipe, **keys)
    return ours, peer, next(open_batches(loaded, samples, processor, range(1), workers=0))[0].inputs


@pytest.mark.parametrize("encoding", ["learned", "rope"])
def test_with_the_same_points_logits_losses_and_gradients_are_the_same(square, monkeypatch, encoding):
    same_points(monkeypatch)
    keys = {"position_encoding": encoding, "pos_embed_rescale": None}  # which draws a number
    ours, peer, batch = pair(square, **{f"model.config.{key}": value for key, value in keys.items()})
    mine, theirs = ours.train()(**batch), peer.train()(**batch)
    assert_close_in_scale(mine.class_queries_logits, theirs.class_queries_logits)
    assert_close_in_scale(mine.masks_queries_logits, theirs.masks_queries_logits)
    assert theirs.loss_dict.keys() == mine.loss_dict.keys()
    for name, term in mine.loss_dict.items():
        torch.testing.assert_close(theirs.loss_dict[name], term, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(theirs.loss, mine.loss, rtol=1e-4, atol=0)
    mine.loss.backward()
    theirs.loss.backward()
    assert_close_in_scale(ours.queries.weight.grad, peer.queries.weight.grad, 1e-3)
    assert [name for name, value in peer.named_parameters() if value.grad is None] == []


def test_masks_are_annealed_alike(square):
    ours, peer, _ = pair(square)
    for step, masked in ((0, 2), (3, 1.4), (8, 0.67), (11, 0)):
        for model in (ours, peer):
            model.at_step(step, of=11)
        torch.testing.assert_close(peer.attn_mask_probs, ours.attn_mask_probs)
        assert peer.attn_mask_probs.sum().item() == pytest.approx(masked, abs=0.01)
    assert peer.stock.attn_mask_probs is peer.attn_mask_probs


def test_the_optimiser_treats_both_alike(square):
    def sizes_by_group(model):
        optim = OptimRecipe(lr=1.0, weight_decay=0.5, backbone_lr_factor=0.25, layer_decay=0.5)
        return Counter(
            (group["lr"], group["weight_decay"], parameter.numel())
            for group in parameter_groups(model, optim)
            for parameter in group["params"]
        )

    ours, peer, _ = pair(square)
    assert sizes_by_group(peer) == sizes_by_group(ours)


def test_a_run_leaves_what_transformers_opens_and_goes_on(square, tmp_path):
    keys = {"schedule.max_steps": 3, "run.checkpoint_every": 1}
    metrics = fit_peer(square, **keys)
    assert (metrics["images"], metrics["step"], metrics["finished"]) == (3, 3, True)
    state = tmp_path / "run" / "checkpoints" / "step-000002"
    fit_peer(square, **keys, **{"run.resume": str(state), "run.output_dir": str(tmp_path / "on")})
    assert log_of(tmp_path / "on") == log_of(tmp_path / "run")[2:]
    model, report = EomtForUniversalSegmentation.from_pretrained(
        tmp_path / "run" / "checkpoint", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.attn_mask_probs.tolist() == [0, 0]  # at the end of the run


def test_what_the_peer_cannot_do_is_refused(square):
    with pytest.raises(ValueError, match="EoMT is trained as a whole here: frozen_stages is 2, not 0"):
        fit_peer(square, **{"model.frozen_stages": 2})


def test_a_copy_is_whole_and_apart(square):
    _, peer, batch = pair(square)
    twin = copy.deepcopy(peer)
    assert {id(value) for value in twin.stock.parameters()} == {id(value) for value in twin.parameters()}
    twin.at_step(1, of=1)
    twin.eval()(batch["pixel_values"])
    assert twin.stock.attn_mask_probs.sum() == 0 < peer.attn_mask_probs.sum()


def test_with_the_same_points_whole_trainings_are_the_same(square, monkeypatch):
    """Scores of two trainings can differ by what each code draws, and by nothing else."""
    same_points(monkeypatch)
    ours, peer, loaded, samples, processor = build_pair(square)
    optimizers = [torch.optim.AdamW(parameter_groups(model, loaded.optim)) for model in (ours, peer)]
    steps = 6
    for step, micro_batches in enumerate(open_batches(loaded, samples, processor, range(steps), workers=0)):
        losses = []
        for model, optimizer in zip((ours, peer), optimizers, strict=True):
            model.train().at_step(step, steps)  # from all masks to none
            optimizer.zero_grad()
            loss = model(**micro_batches[0].inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss)
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)
