# SPDX-License-Identifier: Apache-2.0
import copy
import json
import re
import sys

import peft
import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import Mask2FormerForUniversalSegmentation

from tests.training.test_several_processes import KINDS, same_points, start_two, use
from tests.training.tiny_run import breaking_off, log_of, scores_of
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.runs.recipe import load_recipe
from unisegment.runs.settings import RecipeError, parse_yaml
from unisegment.training import dry_run, fit
from unisegment.training.assembly import build_model, open_samples
from unisegment.training.lora import without_adapters
from unisegment.training.optimization import make_optimizer
from unisegment.training.sharding import with_whole_weights, without_weights

SWIN = {
    "model_type": "swin", "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4,
    "drop_path_rate": 0.0, "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
CLASS_HEAD = "transformer_decoder.predictor.class_head"
STATES = {"schedule.max_steps": 4, "run.checkpoint_every": 2, "run.eval_every": 2, "optim.ema_decay": 0.5}


def write_adapted(recipe, folder):
    """Let a recipe start from a checkpoint of its model, which knows other labels, and return its file."""
    values = parse_yaml(recipe.read_text(), str(recipe))
    config = values["model"]["config"] | {"backbone_config": SWIN, "num_labels": 5}
    torch.manual_seed(3)
    UniSegmentForUniversalSegmentation(UniSegmentConfig(**config)).save_pretrained(folder)
    values["model"] = {"pretrained": str(folder), "lora": {"rank": 2, "alpha": 3, "dropout": 0.1}}
    recipe.write_text(json.dumps(values))
    return recipe


@pytest.fixture
def adapted(recipe, tmp_path):
    return write_adapted(recipe, tmp_path / "pretrained")


def built(recipe, **overrides):
    recipe = load_recipe(recipe, overrides)
    torch.manual_seed(recipe.run.seed)
    return build_model(recipe, open_samples(recipe.data)[0])[0]


def learning(model):
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def disturbed(model):
    """Let matrices have learned something."""
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(weight, std=0.3)
    return model


def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(5))


def assert_same_logits(found, expected):
    with torch.no_grad():
        found, expected = found.eval()(images()), expected.eval()(images())
    torch.testing.assert_close(found.class_queries_logits, expected.class_queries_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.masks_queries_logits, expected.masks_queries_logits, atol=1e-4, rtol=1e-4)


def test_matrices_and_the_class_head_learn_and_nothing_else(adapted, tmp_path):
    model = built(adapted)
    modules = built(adapted, **{"model.lora.rank": 0}).named_modules()
    linear = {name for name, module in modules if isinstance(module, nn.Linear)}
    sides = {f"{name}.lora_{side}.default.weight" for name in linear - {CLASS_HEAD} for side in "AB"}
    assert learning(model) == sides | {f"{CLASS_HEAD}.{part}" for part in ("weight", "bias")}
    assert any(name.startswith("backbone.") for name in sides)
    settings = {"model.gradient_checkpointing": True, "optim.accumulation": 2, "run.precision": "bf16"}
    fit(adapted, **settings)
    before = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "pretrained").state_dict()
    after = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "run" / "checkpoint").state_dict()
    assert after.keys() == before.keys()
    same = {name for name, value in after.items() if torch.equal(value, before.get(name))}
    assert same == before.keys() - {f"{name}.weight" for name in linear} - {f"{CLASS_HEAD}.bias"}


def test_matrices_start_as_nothing_and_are_reached_by_every_recomputed_step(adapted):
    plain = UniSegmentForUniversalSegmentation.from_pretrained(
        load_recipe(adapted).model.pretrained, id2label=built(adapted).config.id2label, ignore_mismatched_sizes=True
    )
    model = built(adapted, **{"model.lora.dropout": 0})
    plain.get_submodule(CLASS_HEAD).load_state_dict(model.get_submodule(CLASS_HEAD).state_dict())
    assert_same_logits(model, plain)
    gradients = []
    for recomputed in (False, True):
        model = built(adapted, **{"model.lora.dropout": 0, "model.gradient_checkpointing": recomputed})
        torch.manual_seed(7)
        disturbed(model.train())(images()).masks_queries_logits.square().mean().backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert (
        gradients[0].keys()
        == gradients[1].keys()
        > {"backbone.body.swin.encoder.layers.0.blocks.0.attention.q_proj.lora_A.default.weight"}
    )
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_the_merged_model_is_plain_and_computes_the_same(adapted, tmp_path):
    model = built(adapted)
    empty = without_adapters(without_weights(model))
    disturbed(model)
    before = copy.deepcopy(model.state_dict())
    merged = with_whole_weights(model, empty)
    assert not learning(merged)
    assert_same_logits(merged, model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(type(module).__module__.startswith("peft") for module in merged.modules())
    assert not hasattr(merged, "peft_config")
    plain = built(adapted, **{"model.lora.rank": 0})
    assert merged.state_dict().keys() == plain.state_dict().keys()
    merged.save_pretrained(tmp_path / "ours")
    assert_same_logits(UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "ours"), model)
    merged.save_pretrained(tmp_path / "stock", format="transformers")
    assert_same_logits(Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path / "stock"), model)
    for name, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()  # peft's own way
            torch.testing.assert_close(merged.get_submodule(name).weight, module.base_layer.weight)


def test_a_run_that_is_broken_off_ends_like_one_that_is_not(adapted, tmp_path):
    unbroken, broken = ({**STATES, "run.output_dir": str(tmp_path / name)} for name in ("unbroken", "broken"))
    fit(adapted, **unbroken)
    with breaking_off(4, KeyError("broken off")), pytest.raises(KeyError, match="broken off"):
        fit(adapted, **broken)
    fit(adapted, **broken)
    assert log_of(tmp_path / "broken") == log_of(tmp_path / "unbroken")
    assert scores_of(tmp_path / "broken") == scores_of(tmp_path / "unbroken")
    for name in ("checkpoint", "checkpoint-best"):
        found, expected = (
            UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / run / name).state_dict()
            for run in ("broken", "unbroken")
        )
        assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_a_rank_of_zero_changes_nothing(adapted, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    model = built(adapted, **{"model.lora.rank": 0})
    assert learning(model) == {name for name, _ in model.named_parameters()}
    assert not any("lora" in name or "base_layer" in name for name in model.state_dict())


def test_targets_and_frozen_stages_decide_what_gets_matrices(adapted):
    model = built(adapted, **{"model.lora.targets": r".*\.(q_proj|v_proj)", "model.frozen_stages": 3})
    names = {name.split(".lora_")[0] for name in learning(model) if ".lora_" in name}
    assert {name.rsplit(".", 1)[1] for name in names} == {"q_proj", "v_proj"}
    assert {name.split(".")[5] for name in names if name.startswith("backbone.")} == {"2", "3"}
    assert model.backbone.train().body.swin.encoder.layers[3].training


def test_a_backbone_without_matrices_stays_as_it_is(adapted):
    model = built(adapted, **{"model.lora.targets": r"transformer_decoder\..*"}).train()
    assert not model.backbone.body.training
    assert model.pixel_decoder.training


def test_what_the_checkpoint_does_not_have_learns_as_it_is(adapted):
    model = built(adapted, **{"model.config": {"decoder_layers": 5, "num_queries": 13}})
    as_they_are = {name for name in learning(model) if ".lora_" not in name and not name.startswith(CLASS_HEAD)}
    queries = {f"transformer_decoder.{name}.weight" for name in ("query_features", "query_pos")}
    layer = "transformer_decoder.layers.3"
    assert as_they_are == queries | {f"{layer}.{name}" for name, _ in model.get_submodule(layer).named_parameters()}
    assert not any(name.startswith(layer) and "lora" in name for name in model.state_dict())


def test_matrices_learn_at_the_rate_of_their_layer(adapted):
    recipe = load_recipe(adapted)
    model = built(adapted)
    groups = make_optimizer(model, recipe.optim).param_groups
    rates = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        factor = recipe.optim.backbone_lr_factor if name.startswith("backbone.") else 1
        assert rates.get(id(weight)) == (recipe.optim.lr * factor if weight.requires_grad else None)


def test_a_dry_run_counts_what_learns(adapted):
    text = dry_run(adapted, **{"model.gradient_checkpointing": True, "optim.ema_decay": 0.9, "run.precision": "bf16"})
    assert "# model   0.4 million weights, of which 0.0 million learn" in text
    assert re.search(r"# memory .*: weights 1, gradients 0, optimizer 0, average 0, inputs 1, activations \d", text)


def test_adapters_without_a_checkpoint_are_refused(adapted):
    with pytest.raises(RecipeError, match=r"lora\.rank=2 .* pretrained=null"):
        load_recipe(adapted, {"model.pretrained": None})


def test_names_that_no_layer_has_are_refused_with_near_ones(adapted):
    with pytest.raises(RecipeError, match=r"targets=q_projection: of the \d+ linear .* such as: .*q_proj"):
        built(adapted, **{"model.lora.targets": "q_projection"})


def test_a_missing_package_is_named(adapted, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RecipeError, match=r"model\.lora\.rank=2 needs peft: pip install 'unisegment\[lora\]'"):
        built(adapted)


WAYS = {"model.lora.dropout": 0, "optim.ema_decay": 0.5}


def train_in_two_processes(recipe, root):
    clip = Accelerator.clip_grad_norm_

    def checking(accelerator, *arguments):
        (losses,) = accelerator._models
        assert {isinstance(weight, DTensor) for weight in losses.parameters()} == {accelerator.is_fsdp2}
        return clip(accelerator, *arguments)

    Accelerator.clip_grad_norm_, torch.rand = checking, same_points
    for kind in KINDS:
        use(kind)
        fit(recipe, **WAYS, **{"run.output_dir": str(root / kind)})
        assert AcceleratorState().is_fsdp2 == (kind == "fsdp2")
    PartialState().destroy_process_group()


@pytest.mark.slow
def test_two_processes_come_to_the_same_model_also_with_weights_in_parts(adapted, tmp_path, monkeypatch):
    two = start_two(train_in_two_processes, adapted, tmp_path)
    _, errors = two.communicate()
    assert two.returncode == 0, errors
    monkeypatch.setattr(torch, "rand", same_points)
    fit(adapted, **WAYS)
    expected = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "run" / "checkpoint").state_dict()
    for kind in KINDS:
        found = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / kind / "checkpoint").state_dict()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
