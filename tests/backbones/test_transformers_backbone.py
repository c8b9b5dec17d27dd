# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn
from torch.nn.functional import pad
from transformers import (
    AutoBackbone,
    ConvNextConfig,
    ConvNextV2Config,
    Dinov2Config,
    DINOv3ConvNextConfig,
    ResNetConfig,
    SwinConfig,
    Swinv2Config,
)

from tests.backbones.small_configs import CONVNEXT, RESNET, STAGES, STRIDES, SWIN
from unisegment.backbones.transformers_backbone import TransformersBackbone
from unisegment.layers.linear import Linear

CONFIGS = [
    SwinConfig(**SWIN, out_features=STAGES),
    Swinv2Config(**SWIN, out_features=STAGES),
    ResNetConfig(**RESNET, out_features=STAGES),
    ConvNextConfig(**CONVNEXT, out_features=STAGES),
    ConvNextV2Config(**CONVNEXT, out_features=STAGES),
    DINOv3ConvNextConfig(**CONVNEXT, out_features=STAGES),
]


def with_type(configs):
    return pytest.mark.parametrize("config", configs, ids=[config.model_type for config in configs])


def twins(config):
    """Return our backbone and transformers' own, with the same weights."""
    backbone = TransformersBackbone(config, STRIDES, freeze_norm=False).eval()
    peer = AutoBackbone.from_config(config).eval()
    peer.load_state_dict(backbone.body.state_dict(), strict=False)
    return backbone, peer


def assert_equal_features(config, size):
    backbone, peer = twins(config)
    pixel_values = torch.randn(2, 3, *size)
    with torch.no_grad():
        for ours, theirs in zip(backbone(pixel_values), peer(pixel_values).feature_maps, strict=True):
            torch.testing.assert_close(ours, theirs)


@with_type(CONFIGS)
def test_gives_what_transformers_gives(config):
    assert_equal_features(config, (64, 96))


@with_type([config for config in CONFIGS if config.model_type != "resnet"])
def test_linear_layers_are_those_that_may_be_fused(config):
    modules = TransformersBackbone(config, STRIDES, freeze_norm=False).modules()
    assert {type(module) for module in modules if isinstance(module, nn.Linear)} == {Linear}


@with_type(CONFIGS[:3])
def test_what_transformers_pads_by_itself_stays_untouched(config):
    assert_equal_features(config, (37, 51))


@with_type(CONFIGS[3:])
def test_no_pixel_is_dropped_where_transformers_drops_some(config):
    backbone, peer = twins(config)
    pixel_values = torch.randn(2, 3, 37, 51)
    with torch.no_grad():
        features = backbone(pixel_values)
        for ours, theirs in zip(features, peer(pad(pixel_values, (0, 13, 0, 27))).feature_maps, strict=True):
            torch.testing.assert_close(ours, theirs[..., : ours.shape[-2], : ours.shape[-1]])
        pixel_values[..., -1, -1] += 9
        changed = backbone(pixel_values)
    assert [tuple(feature.shape[-2:]) for feature in features] == [(10, 13), (5, 7), (3, 4), (2, 2)]
    assert all(not torch.equal(a[..., -1, -1], b[..., -1, -1]) for a, b in zip(changed, features, strict=True))


@with_type(CONFIGS)
def test_every_parameter_is_used(config):
    backbone = TransformersBackbone(config, STRIDES, freeze_norm=False)
    sum(feature.sum() for feature in backbone(torch.randn(1, 3, 64, 96))).backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


def test_a_backbone_of_other_strides_is_named():
    config = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        out_features=STAGES,
        reshape_hidden_states=True,
    )
    backbone = TransformersBackbone(config, STRIDES, freeze_norm=False)
    with pytest.raises(
        ValueError, match=r"TransformersBackbone gave maps .*\(16, 4, 6\).* for an image of 56x84; .* promise"
    ):
        backbone(torch.randn(1, 3, 56, 84))


def test_a_missing_stage_is_named():
    with pytest.raises(ValueError, match="Check `out_features` of backbone_config and `feature_strides`"):
        TransformersBackbone(ResNetConfig(**RESNET, out_features=STAGES[1:]), STRIDES, freeze_norm=False)
