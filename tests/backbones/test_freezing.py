# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextV2Config,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ConvNextConfig,
    DINOv3ViTConfig,
    PvtV2Config,
    ResNetConfig,
    SwinConfig,
    Swinv2Config,
)

from tests.backbones.small_configs import CONVNEXT, RESNET, STAGES, STRIDES, SWIN
from unisegment.backbones.build import build_backbone
from unisegment.backbones.freezing import frozen_modules
from unisegment.runs.recipe import OptimRecipe
from unisegment.training.optimization import make_optimizer

VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 48, "patch_size": 16}


def stages(name):
    return [f"{name}.{index}." for index in range(4)]


# What the names of the weights start with, part by part; the last one ends with the transformer's own last norm.
FAMILIES = {
    "resnet": (ResNetConfig(**RESNET, out_features=STAGES), ["embedder.", *stages("encoder.stages")]),
    "swin": (
        SwinConfig(**SWIN, drop_path_rate=0.0, out_features=STAGES),
        ["swin.embeddings.", *stages("swin.encoder.layers")],
    ),
    "swinv2": (
        Swinv2Config(**SWIN, drop_path_rate=0.0, out_features=STAGES),
        ["embeddings.", *stages("encoder.layers")],
    ),
    "convnext": (ConvNextConfig(**CONVNEXT, out_features=STAGES), ["embeddings.", *stages("encoder.stages")]),
    "convnextv2": (ConvNextV2Config(**CONVNEXT, out_features=STAGES), ["embeddings.", *stages("encoder.stages")]),
    "dinov3_convnext": (
        DINOv3ConvNextConfig(**CONVNEXT, out_features=STAGES),
        ["model.stages.0.downsample_layers.", *stages("model.stages")],
    ),
    "dinov2": (
        Dinov2Config(**VIT, use_mask_token=False),
        ["embeddings.", "encoder.layer.0.", "encoder.layer.1.", ("encoder.layer.2.", "layernorm.")],
    ),
    "dinov2_with_registers": (
        Dinov2WithRegistersConfig(**VIT),
        ["embeddings.", "encoder.layer.0.", "encoder.layer.1.", ("encoder.layer.2.", "layernorm.")],
    ),
    "dinov3_vit": (
        DINOv3ViTConfig(**VIT, intermediate_size=40, num_register_tokens=3),
        ["embeddings.", "model.layer.0.", "model.layer.1.", ("model.layer.2.", "norm.")],
    ),
}
families = pytest.mark.parametrize("family", FAMILIES)


def built(family, **changes):
    config, parts = FAMILIES[family]
    config = type(config)(**{**config.to_dict(), **changes})
    return build_backbone(config, STRIDES, freeze_norm=False), parts


def learn(backbone, steps=2):
    """Take steps of the optimiser and return the names of what changed and of what the optimiser holds."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(1, 1)})  # something that always learns
    optimizer = make_optimizer(model, OptimRecipe(lr=0.01))
    backbone.train()
    for _ in range(steps):
        features = backbone(torch.randn(2, 3, 64, 96))
        scores = [model["head"]((feature * torch.randn_like(feature)).sum()[None]) for feature in features]
        torch.cat(scores).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    learned = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    changed = {name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])}
    return changed, {name for name, parameter in backbone.named_parameters() if parameter in learned}


@families
def test_the_first_parts_stay_and_the_others_learn(family):
    for count in (0, 1, 2, len(FAMILIES[family][1])):
        backbone, parts = built(family)
        names = set(backbone.state_dict())
        backbone.freeze(count)
        prefixes = [part if isinstance(part, tuple) else (part,) for part in parts[:count]]
        frozen = {name for name in names if name.startswith(tuple(f"body.{p}" for part in prefixes for p in part))}
        assert bool(frozen) == (count > 0)
        changed, held = learn(backbone)
        assert changed == names - frozen
        assert held == {name for name, _ in backbone.named_parameters()} - frozen
        assert {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad} == {
            name for name, _ in backbone.named_parameters() if name in frozen
        }


@families
def test_all_is_everything(family):
    backbone, _ = built(family)
    backbone.freeze("all")
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    images = torch.randn(2, 3, 64, 96)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    first, second = backbone.train()(images), backbone(images)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("family", ["swin", "swinv2", "convnext", "convnextv2", "dinov3_convnext"])
def test_nothing_is_dropped_in_what_is_frozen(family):
    backbone, parts = built(family, drop_path_rate=0.9)
    images = torch.randn(3, 3, 64, 96)
    backbone.freeze(len(parts))
    first, second = backbone.train()(images), backbone(images)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    backbone, _ = built(family, drop_path_rate=0.9)
    first, second = backbone.train()(images), backbone(images)
    assert not torch.equal(first[-1], second[-1])


@families
def test_evaluation_and_training_mode_are_those_asked_for_elsewhere(family):
    backbone, _ = built(family)
    backbone.freeze(2)
    frozen = {inner for module in frozen_modules(backbone.body, 2) for inner in module.modules()}
    others = set(backbone.modules()) - frozen
    for mode in (True, False, True):
        backbone.train(mode)
        assert all(module.training is mode for module in others)
        assert not any(module.training for module in frozen)


@families
def test_more_parts_than_there_are_is_an_error_that_counts_them(family):
    backbone, parts = built(family)
    there_are = rf"this '{family}' has only {len(parts)} parts to freeze, the stem and {len(parts) - 1} stages"
    with pytest.raises(ValueError, match=rf"frozen_stages={len(parts) + 1}, but {there_are}\. Give 0 to {len(parts)}"):
        backbone.freeze(len(parts) + 1)
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert backbone.train().training


def test_an_unknown_kind_of_backbone_is_frozen_as_a_whole_or_not_at_all():
    backbone = build_backbone(PvtV2Config(out_features=STAGES, depths=[1, 1, 1, 1]), STRIDES, freeze_norm=False)
    backbone.freeze(0)
    with pytest.raises(ValueError, match=r"which modules of a 'pvt_v2' are its stages is known only for resnet, "):
        backbone.freeze(1)
    backbone.freeze("all")
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
