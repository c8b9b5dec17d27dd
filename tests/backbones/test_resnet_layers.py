# SPDX-License-Identifier: Apache-2.0
"""transformers' own ResNet is the oracle."""

import copy
from unittest import mock

import pytest
import torch
from accelerate import cpu_offload
from torch import nn
from transformers import AutoBackbone, ResNetConfig

from unisegment.backbones import resnet_layers
from unisegment.backbones.transformers_backbone import TransformersBackbone
from unisegment.layers.norm import freeze_batch_norm
from unisegment.ops.fused_products import fuses, plain_products

STAGES = ["stage1", "stage2", "stage3", "stage4"]
needs_onednn = pytest.mark.skipif(
    not torch.inference_mode()(fuses)(torch.ones(1)), reason="this processor, or this torch, has no fused functions"
)


def make_config(layer_type="bottleneck", activation="relu", **keys):
    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 2, 1, 1], layer_type=layer_type,
        hidden_act=activation, out_features=STAGES, **keys,
    )  # fmt: skip


def make_pair(config, freeze=True):
    """Return ours and theirs with the same weights, and statistics that a norm shows."""
    theirs = AutoBackbone.from_config(config).eval()
    generator = torch.Generator().manual_seed(0)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 2, generator=generator)
            for values in (module.bias.data, module.running_mean):
                values.normal_(generator=generator)
    ours = TransformersBackbone(config, (4, 8, 16, 32), freeze_norm=freeze).eval()
    ours.body.load_state_dict(theirs.state_dict(), strict=False)
    return ours, theirs


def maps_of(backbone, images):
    with torch.no_grad():
        return backbone(images).feature_maps if hasattr(backbone, "config") else backbone(images)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
@pytest.mark.parametrize("downsample", [True, False])
def test_maps_are_those_of_transformers(freeze, layer_type, downsample):
    keys = {"downsample_in_bottleneck": downsample} if layer_type == "bottleneck" else {}
    ours, theirs = make_pair(make_config(layer_type, **keys), freeze)
    images = torch.randn(2, 3, 70, 101)
    for found, expected in zip(maps_of(ours, images), maps_of(theirs, images), strict=True):
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
        assert found.is_contiguous(memory_format=torch.channels_last) or not fuses(images)


@needs_onednn
def test_convolutions_norms_and_sums_are_one():
    ours, _ = make_pair(make_config())
    with mock.patch.object(resnet_layers, "conv2d", wraps=resnet_layers.conv2d) as conv2d:
        maps_of(ours, torch.randn(1, 3, 64, 96))
        with plain_products():
            maps_of(ours, torch.randn(1, 3, 64, 96))
    convolutions = sum(isinstance(module, nn.Conv2d) for module in ours.modules())
    assert conv2d.call_count == convolutions
    assert sum(len(call.args) > 8 and call.args[8] is not None for call in conv2d.call_args_list) == 5


def test_another_activation_is_not_mistaken_for_relu():
    ours, theirs = make_pair(make_config(activation="gelu"))
    images = torch.randn(1, 3, 64, 96)
    for found, expected in zip(maps_of(ours, images), maps_of(theirs, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_norms_that_learn_keep_their_statistics_and_gradients():
    ours, theirs = make_pair(make_config(), freeze=False)
    images = torch.randn(2, 3, 64, 96)
    for model in (ours, theirs):
        model.train()
    found, expected = ours(images), theirs(images).feature_maps
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    found[-1].sum().backward()
    expected[-1].sum().backward()
    for (name, one), other in zip(ours.body.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    with torch.no_grad():  # of a batch, not of constants: nothing is folded
        for one, other in zip(ours(images), theirs(images).feature_maps, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_hooks_and_names_stay_for_device_maps():
    ours, theirs = make_pair(make_config())
    images = torch.randn(1, 3, 64, 96)
    cpu_offload(ours, torch.device("cpu"))
    for found, expected in zip(maps_of(ours, images), maps_of(theirs, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    names = {type(module).__name__ for module in ours.modules()}
    assert set(theirs._no_split_modules) <= names


def test_frozen_norms_in_half_precision_are_folded_in_float32():
    ours, theirs = make_pair(make_config())
    freeze_batch_norm(theirs)
    images = torch.randn(1, 3, 64, 96)
    expected = maps_of(theirs, images)
    found = maps_of(copy.deepcopy(ours).to(torch.bfloat16), images.to(torch.bfloat16))
    with plain_products():
        plain = maps_of(ours.to(torch.bfloat16), images.to(torch.bfloat16))
    for one, other, exact in zip(found, plain, expected, strict=True):
        assert (one.float() - exact).abs().mean() <= 1.5 * (other.float() - exact).abs().mean()
