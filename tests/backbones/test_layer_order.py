# SPDX-License-Identifier: Apache-2.0
"""Which layers lie above a weight is compared with which layers run after it."""

import pytest
import torch
from transformers import (
    AutoBackbone,
    ConvNextConfig,
    ConvNextV2Config,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ConvNextConfig,
    DINOv3ViTConfig,
    ResNetConfig,
    SwinConfig,
    Swinv2Config,
)

from tests.backbones.small_configs import CONVNEXT, RESNET, STAGES, SWIN
from unisegment.backbones.freezing import LAYOUTS
from unisegment.backbones.layer_order import layers_above

VIT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
CONFIGS = {
    "resnet": (ResNetConfig(**RESNET, out_features=STAGES), "ResNetBottleNeckLayer"),
    "swin": (SwinConfig(**SWIN, out_features=STAGES), "SwinLayer"),
    "swinv2": (Swinv2Config(**SWIN, out_features=STAGES), "Swinv2Layer"),
    "convnext": (ConvNextConfig(**CONVNEXT, out_features=STAGES), "ConvNextLayer"),
    "convnextv2": (ConvNextV2Config(**CONVNEXT, out_features=STAGES), "ConvNextV2Layer"),
    "dinov3_convnext": (DINOv3ConvNextConfig(**CONVNEXT, out_features=STAGES), "DINOv3ConvNextLayer"),
    "dinov2": (Dinov2Config(**VIT), "Dinov2Layer"),
    "dinov2_with_registers": (Dinov2WithRegistersConfig(**VIT), "Dinov2WithRegistersLayer"),
    "dinov3_vit": (DINOv3ViTConfig(**VIT, intermediate_size=40), "DINOv3ViTLayer"),
}


def test_every_layout_is_tried():
    assert CONFIGS.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("kind", CONFIGS)
def test_it_is_how_many_layers_run_after_a_weight(kind):
    """What makes maps smaller runs right after its layer (Swin) or right before it, in the same stage."""
    config, layer_class = CONFIGS[kind]
    torch.manual_seed(0)
    body = AutoBackbone.from_config(config).eval()
    order = []
    names = {module: name for name, module in body.named_modules()}
    layers = [module for module in body.modules() if type(module).__name__ == layer_class]
    for layer in layers:
        layer.register_forward_hook(lambda module, *_: order.append(module))
    body(torch.randn(1, 3, 64, 96))
    assert len(order) == len(layers) >= 3
    for place, layer in enumerate(order):
        prefix = f"{names[layer]}."
        own = [name for name, _ in body.named_parameters() if name.startswith(prefix)]
        assert own
        assert {layers_above(body, name) for name in own} == {len(order) - 1 - place}
    inside = tuple(f"{names[layer]}." for layer in order)
    stem = tuple(f"{name}." for name in LAYOUTS[kind].stem)
    for name, _ in body.named_parameters():
        if name.startswith(stem):
            assert layers_above(body, name) == len(order) - 1, name
        elif not name.startswith(inside) and "downsampl" not in name:  # norms behind the layers
            assert layers_above(body, name) == 0, name


@pytest.mark.parametrize(
    ("kind", "name", "above"),
    [
        # Of 5 layers in stages of 1, 1, 2 and 1.
        ("swin", "swin.encoder.layers.0.downsample.reduction.weight", 4),
        ("swin", "swin.encoder.layers.2.downsample.norm.weight", 1),
        ("swinv2", "encoder.layers.2.downsample.norm.weight", 1),
        ("convnext", "encoder.stages.2.downsampling_layer.1.weight", 2),
        ("dinov3_convnext", "model.stages.2.downsample_layers.1.weight", 2),
        ("dinov3_convnext", "model.stages.0.downsample_layers.0.weight", 4),
    ],
)
def test_what_makes_maps_smaller_belongs_to_a_layer_beside_it(kind, name, above):
    body = AutoBackbone.from_config(CONFIGS[kind][0])
    assert name in dict(body.named_parameters())
    assert layers_above(body, name) == above


def test_where_the_layers_are_is_not_known_of_every_backbone():
    body = AutoBackbone.from_config(CONFIGS["resnet"][0])
    body.config.model_type = "other"
    assert layers_above(body, "encoder.stages.0.layers.0.layer.0.convolution.weight") == 0
