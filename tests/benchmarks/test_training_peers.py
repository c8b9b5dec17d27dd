# SPDX-License-Identifier: Apache-2.0
import copy
import json
from collections import Counter

import pytest
import torch
from torch import nn
from transformers import Mask2FormerForUniversalSegmentation

from tests.benchmarks.peer_pairs import PEERS, build_pair, fit_peer
from tests.models.model_tester import assert_close_in_scale, same_points
from tests.models.unisegment.original_files import stock_model
from tests.training.tiny_run import log_of
from unisegment.models.base import FAMILIES
from unisegment.runs.recipe import OptimRecipe
from unisegment.training.optimization import parameter_groups

FAMILY = PEERS["unisegment"]
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SWIN = {
    "model_type": "swin", "image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8],
    "window_size": 3, "drop_path_rate": 0.0, "out_features": STAGES,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(FAMILIES._others, FAMILY.model_type, FAMILY)


def pair(recipe, **keys):
    """Return our model and the peer, and a batch of the recipe's data."""
    ours, peer, _, samples, processor = build_pair(recipe, **keys)
    return ours, peer, processor.collate([samples[index] for index in (0, 3, 5)])


def images_of(batch):
    return {"pixel_values": batch["pixel_values"], "pixel_mask": batch["pixel_mask"]}


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
@pytest.mark.parametrize("freeze", [True, False])
def test_the_first_step_sees_the_same_logits(recipe, backbone, freeze):
    keys = {"model.config.freeze_backbone_norm": freeze, "run.seed": 5}
    if backbone == "swin":
        keys["model.config.backbone_config"] = SWIN
    ours, peer, batch = pair(recipe, **keys)
    for training in (False, True):
        with torch.no_grad():
            mine, theirs = ours.train(training)(**images_of(batch)), peer.train(training)(**images_of(batch))
        assert_close_in_scale(theirs.class_queries_logits, mine.class_queries_logits)
        assert_close_in_scale(theirs.masks_queries_logits, mine.masks_queries_logits)
        assert torch.equal(theirs.image_sizes, mine.image_sizes)
        assert theirs.loss is None
    further = {"model_type": FAMILY.model_type, "pretrained": None}
    assert peer.config.to_dict() == ours.config.to_dict() | further
    assert peer.device == ours.device


def test_with_the_same_points_losses_and_gradients_are_the_same(recipe, monkeypatch):
    same_points(monkeypatch)
    ours, peer, batch = pair(recipe)
    mine, theirs = ours.train()(**batch), peer.train()(**batch)
    assert theirs.loss_dict.keys() == mine.loss_dict.keys()
    for name, term in mine.loss_dict.items():
        torch.testing.assert_close(theirs.loss_dict[name], term, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(theirs.loss, torch.stack(list(theirs.loss_dict.values())).sum())
    mine.loss.backward()
    theirs.loss.backward()
    torch.testing.assert_close(
        peer.class_predictor.weight.grad,
        ours.transformer_decoder.predictor.class_head.weight.grad,
        rtol=1e-3,
        atol=1e-4,
    )
    without = [name for name, value in peer.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []


def sizes_by_group(model):
    """Count (rate, decay, size) of what is trained; a fused projection of attention as the three that it is."""
    counts = Counter()
    names = {parameter: name for name, parameter in model.named_parameters()}
    optim = OptimRecipe(lr=1.0, weight_decay=0.5, backbone_lr_factor=0.125)
    for group in parameter_groups(model, optim):
        for parameter in group["params"]:
            parts = 3 if ".in_proj_" in names[parameter] else 1
            counts[group["lr"], group["weight_decay"], parameter.numel() // parts] += parts
    return counts


@pytest.mark.parametrize("keys", [{}, {"freeze_backbone_norm": False}, {"backbone_config": SWIN}], ids=str)
@pytest.mark.parametrize("frozen", [0, 2, "all"])
def test_the_optimiser_treats_both_alike(recipe, keys, frozen):
    settings = {f"model.config.{key}": value for key, value in keys.items()}
    ours, peer, _ = pair(recipe, **settings, **{"model.frozen_stages": frozen})
    expected = sizes_by_group(ours)
    assert sizes_by_group(peer) == expected
    rates = {lr for lr, _, _ in expected}
    assert rates == ({1.0} if frozen == "all" else {1.0, 0.125})


def test_frozen_parts_of_the_backbone_stay(recipe):
    _, peer, batch = pair(recipe, **{"model.frozen_stages": 2, "model.config.freeze_backbone_norm": False})
    before = copy.deepcopy(peer.state_dict())
    optimizer = torch.optim.AdamW(parameter_groups(peer, OptimRecipe()), lr=0.01)
    peer.train()(**batch).loss.backward()
    optimizer.step()
    same = {name for name, value in peer.state_dict().items() if torch.equal(value, before[name])}
    in_backbone = {name for name in before if name.startswith("backbone.")}
    frozen = {
        name for name in before if name.startswith(("backbone.body.embedder.", "backbone.body.encoder.stages.0."))
    }
    assert same & in_backbone == frozen
    norms = [module for module in peer.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert 0 < sum(module.training for module in norms) < len(norms)
    peer.eval()
    assert not any(module.training for module in [*peer.modules(), *peer.stock.modules()])


def test_constant_norms_of_the_backbone_stay(recipe):
    _, peer, batch = pair(recipe)
    norms = [module for module in peer.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    before = copy.deepcopy([module.state_dict() for module in norms])
    optimizer = torch.optim.AdamW(parameter_groups(peer, OptimRecipe()), lr=0.01)
    peer.train()(**batch).loss.backward()
    optimizer.step()
    for module, values in zip(norms, before, strict=True):
        assert all(torch.equal(value, values[name]) for name, value in module.state_dict().items())


def test_a_run_leaves_what_transformers_opens(recipe, tmp_path):
    metrics = fit_peer(recipe, **{"schedule.max_steps": 2})
    assert (metrics["images"], metrics["step"], metrics["finished"]) == (3, 2, True)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics
    lines = log_of(tmp_path / "run")
    terms = [name for name in lines[0] if name.startswith("loss_")]
    assert len(terms) == 12
    assert lines[0]["loss"] == pytest.approx(sum(lines[0][term] for term in terms), rel=1e-5)
    model, report = Mask2FormerForUniversalSegmentation.from_pretrained(
        tmp_path / "run" / "checkpoint", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.id2label[7] == "soil"


def test_a_broken_off_run_goes_on(recipe, tmp_path):
    keys = {"run.checkpoint_every": 1}
    fit_peer(recipe, **keys, **{"schedule.max_steps": 3, "run.output_dir": str(tmp_path / "unbroken")})
    fit_peer(recipe, **keys, **{"schedule.max_steps": 3})
    state = tmp_path / "run" / "checkpoints" / "step-000002"
    fit_peer(
        recipe, **keys, **{"schedule.max_steps": 3, "run.resume": str(state), "run.output_dir": str(tmp_path / "on")}
    )
    expected, found = log_of(tmp_path / "unbroken"), log_of(tmp_path / "on")
    assert found == expected[2:]


def test_checkpoints_are_starting_points_of_both(recipe, tmp_path):
    stock = stock_model("resnet")
    stock.save_pretrained(tmp_path / "stock")
    pretrained = {"model.pretrained": str(tmp_path / "stock"), "model.config": {}}
    ours, peer, batch = pair(recipe, **pretrained)
    with torch.no_grad():
        mine, theirs = ours.eval()(**images_of(batch)), peer.eval()(**images_of(batch))
    assert_close_in_scale(theirs.masks_queries_logits, mine.masks_queries_logits)
    embedded = stock.model.transformer_module.queries_embedder.weight
    assert torch.equal(peer.transformer_decoder.queries_embedder.weight, embedded)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model.config.pixel_decoder": "fpn"}, r"has pixel_decoder='ms_deform_attn' only, this model has 'fpn'\.$"),
        ({"model.config.num_feature_levels": 2}, "has num_feature_levels=3 only, this model has 2"),
        ({"model.config.dropout": 0.1}, "can be trained with dropout=0 only, this model has 0.1"),
        ({"model.config.use_auxiliary_loss": False}, "trained with use_auxiliary_loss=True only, this model has False"),
        ({"model.frozen_stages": 6}, "frozen_stages=6, but this 'resnet' has only 5 parts"),
    ],
)
def test_what_transformers_cannot_train_is_named(recipe, tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        fit_peer(recipe, **keys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("key", "value"), [("gradient_checkpointing", True), ("lora.rank", 2)])
def test_what_the_peer_is_trained_without_is_refused(recipe, tmp_path, key, value):
    keys = {}
    if key == "lora.rank":  # which needs a model that has learned before
        stock_model("resnet").save_pretrained(tmp_path / "stock")
        keys = {"model.pretrained": str(tmp_path / "stock"), "model.config": {}}
    with pytest.raises(ValueError, match=rf"trained without model\.{key.partition('.')[0]} here"):
        fit_peer(recipe, **keys, **{f"model.{key}": value})


def test_a_copy_is_whole_and_apart(recipe):
    _, peer, batch = pair(recipe)
    twin = copy.deepcopy(peer)
    assert {id(value) for value in twin.stock.parameters()} == {id(value) for value in twin.parameters()}
    assert not {id(value) for value in twin.parameters()} & {id(value) for value in peer.parameters()}
    assert isinstance(twin.eval()(**images_of(batch)).masks_queries_logits, torch.Tensor)
