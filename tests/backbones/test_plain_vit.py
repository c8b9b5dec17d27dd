# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, gelu, interpolate, pad
from transformers import AutoBackbone, Dinov2Config, Dinov2WithRegistersConfig, DINOv3ViTConfig

from unisegment.backbones.config_files import PLAIN_VIT_TYPES
from unisegment.backbones.plain_vit import PlainViTBackbone
from unisegment.layers.linear import Linear

STRIDES = (4, 8, 16, 32)
VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
CONFIGS = [
    Dinov2Config(**VIT, image_size=42, patch_size=14),
    Dinov2Config(**VIT, image_size=48, patch_size=16, use_mask_token=False),
    Dinov2WithRegistersConfig(**VIT, image_size=42, patch_size=14, num_register_tokens=3),
    DINOv3ViTConfig(**VIT, intermediate_size=40, image_size=48, patch_size=16, num_register_tokens=3),
    DINOv3ViTConfig(**VIT, intermediate_size=40, image_size=48, patch_size=16),
]
all_configs = pytest.mark.parametrize(
    "config", CONFIGS, ids=[f"{config.model_type}-{config.patch_size}" for config in CONFIGS]
)


def pyramid(weights, x):
    """The simple feature pyramid of ViTDet (arXiv:2203.16527) written out: each map from the last one alone."""

    def norm(name, x):
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return (x - mean) / (variance + 1e-6).sqrt() * scale[:, None, None] + shift[:, None, None]

    def deconvolution(name, x):
        batch, _, height, width = x.shape
        cells = torch.einsum("bchw,coyx->bohywx", x, weights[f"{name}.weight"])
        return cells.reshape(batch, -1, 2 * height, 2 * width) + weights[f"{name}.bias"][:, None, None]

    def halve(x):
        x = pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), value=-torch.inf)
        return torch.stack([x[..., a::2, b::2] for a in (0, 1) for b in (0, 1)]).amax(0)

    up4 = deconvolution("0.resize.3", gelu(norm("0.resize.1", deconvolution("0.resize.0", x))))
    maps = []
    for level, resized in enumerate([up4, deconvolution("1.resize", x), x, halve(x)]):
        resized = norm(f"{level}.norm1", conv2d(resized, weights[f"{level}.conv1.weight"]))
        maps.append(norm(f"{level}.norm2", conv2d(resized, weights[f"{level}.conv2.weight"], padding=1)))
    return maps


@pytest.mark.parametrize("size", [(64, 96), (37, 51), (1, 83)])
@all_configs
def test_maps_are_the_pyramid_on_the_last_map(config, size):
    backbone = PlainViTBackbone(config, STRIDES).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert {type(module) for module in backbone.modules() if isinstance(module, nn.Linear)} == {Linear}
    peer = AutoBackbone.from_config(config).eval()
    peer.load_state_dict(backbone.body.state_dict(), strict=False)
    images = torch.randn(2, 3, *size)
    rows, columns = -(-size[0] // 16), -(-size[1] // 16)
    if config.patch_size == 16:
        patches = pad(images, (0, 16 * columns - size[1], 0, 16 * rows - size[0]))
    else:
        patches = interpolate(images, (14 * rows, 14 * columns), mode="bilinear")
    with torch.no_grad():
        last = peer(patches).feature_maps[0]
        assert last.shape == (2, 16, rows, columns)
        expected = pyramid(backbone.pyramid.state_dict(), last)
        features = backbone(images)
    assert [tuple(feature.shape) for feature in features] == [
        (2, 256, -(-size[0] // stride), -(-size[1] // stride)) for stride in STRIDES
    ]
    for ours, theirs in zip(features, expected, strict=True):
        theirs = theirs[..., : ours.shape[-2], : ours.shape[-1]]
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@all_configs
def test_every_parameter_is_used_and_none_was_lost(config):
    backbone = PlainViTBackbone(config, STRIDES)
    sum(feature.square().sum() for feature in backbone(torch.randn(1, 3, 64, 96))).backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []
    own, peer = backbone.body.state_dict(), AutoBackbone.from_config(config).state_dict()
    assert peer.keys() - own.keys() <= {"embeddings.mask_token"}
    assert own.keys() <= peer.keys()


def test_the_types_are_those_of_the_configs():
    assert {config.model_type for config in CONFIGS} == PLAIN_VIT_TYPES


@pytest.mark.parametrize(
    ("config", "strides", "message"),
    [
        (CONFIGS[0], (8, 16, 32), r"maps at strides \(4, 8, 16, 32\), not at \(8, 16, 32\)"),
        (CONFIGS[0], (2, 4, 8, 16), r"maps at strides \(4, 8, 16, 32\), not at \(2, 4, 8, 16\)"),
        (Dinov2Config(**VIT, out_features=["stage1", "stage3"]), STRIDES, r"'dinov2' needs out_features=\['stage3'\]"),
        (Dinov2Config(**VIT, apply_layernorm=False), STRIDES, "needs apply_layernorm=True"),
        (Dinov2Config(**VIT, reshape_hidden_states=False), STRIDES, "needs reshape_hidden_states=True"),
        (Dinov2Config(**VIT, patch_size=[14, 7]), STRIDES, r"one number for both directions, got \[14, 7\]"),
        (Dinov2Config(**{**VIT, "hidden_size": 18}), STRIDES, "hidden_size must be a multiple of 4 .* got 18"),
    ],
)
def test_what_the_pyramid_cannot_stand_on_is_named(config, strides, message):
    with pytest.raises(ValueError, match=message):
        PlainViTBackbone(config, strides)
