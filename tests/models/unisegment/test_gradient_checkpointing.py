# SPDX-License-Identifier: Apache-2.0
"""Layers that are computed again in the backward pass: the same numbers, less memory."""

import warnings

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import ConvNextConfig, Dinov2Config, DINOv3ViTConfig, ResNetConfig, SwinConfig, Swinv2Config
from transformers.modeling_layers import GradientCheckpointingLayer

from tests.models.model_tester import random_targets, switch_recomputing
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.ops.kernel_backend import Kernel, find_kernel

STAGES = ["stage1", "stage2", "stage3", "stage4"]
SWIN = {"image_size": 64, "embed_dim": 16, "depths": [2, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 3}
VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 16, "image_size": 48}
BACKBONES = {
    "resnet": ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic", out_features=STAGES
    ),
    "swin": SwinConfig(**SWIN, drop_path_rate=0.5, out_features=STAGES),
    "swinv2": Swinv2Config(**SWIN, drop_path_rate=0.5, out_features=STAGES),
    "convnext": ConvNextConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], drop_path_rate=0.5, out_features=STAGES
    ),
    "dinov2": Dinov2Config(**VIT, drop_path_rate=0.5, use_mask_token=False),
    "dinov3_vit": DINOv3ViTConfig(**VIT, intermediate_size=40, drop_path_rate=0.5),
}
SIZES = {
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 3, "decoder_layers": 6,
    "num_attention_heads": 4, "num_queries": 11, "dim_feedforward": 64, "encoder_feedforward_dim": 64,
    "num_labels": 5, "train_num_points": 61,
}  # fmt: skip


def made(backbone="resnet", **keys):
    torch.manual_seed(3)
    config = UniSegmentConfig(backbone_config=BACKBONES[backbone], **SIZES | keys)
    return UniSegmentForUniversalSegmentation(config).train()


def is_on(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return model.is_gradient_checkpointing


def forward(model, autocast=False):
    torch.manual_seed(7)
    images = torch.randn(2, 3, 64, 96)
    masks, labels = random_targets([3, 2], 64, 96)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return model(images, mask_labels=masks, class_labels=labels)


def step(model, autocast=False):
    """Return the losses, the gradients, the statistics, and where a step leaves the random numbers."""
    output = forward(model, autocast)
    output.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {**output.loss_dict, **gradients, **dict(model.named_buffers()), "random numbers": torch.get_rng_state()}


def assert_same_step(make, autocast=False):
    plain, recomputing = make(), make()
    switch_recomputing(recomputing)
    expected, found = step(plain, autocast), step(recomputing, autocast)
    assert found.keys() == expected.keys()
    different = [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert different == []


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_losses_and_gradients_are_the_same_bit_for_bit(backbone, autocast):
    # Where paths are dropped, and where positions are moved at random, the same must happen again.
    assert_same_step(lambda: made(backbone), autocast)


@pytest.mark.parametrize(
    "keys",
    [
        {"freeze_backbone_norm": False},
        {"dropout": 0.3},
        {"pre_norm": True},
        {"pixel_decoder": "transformer_fpn", "dropout": 0.3},
        {"pixel_decoder": "fpn"},
    ],
    ids=str,
)
def test_the_same_for_other_configs_under_autocast(keys):
    assert_same_step(lambda: made(**keys, pixel_decoder_dtype="autocast"), autocast=True)


def test_the_same_with_the_compiled_kernel(monkeypatch):
    kernel = find_kernel()
    if not isinstance(kernel, Kernel):
        pytest.skip(kernel)
    monkeypatch.setenv("UNISEGMENT_KERNELS", "native")
    assert_same_step(made)
    assert_same_step(lambda: made(pixel_decoder_dtype="autocast"), autocast=True)


@pytest.mark.parametrize(
    ("backbone", "pixel_decoder", "layers"),
    [
        ("resnet", "ms_deform_attn", {"MSDeformAttnEncoderLayer": 3, "MaskedAttentionLayer": 5}),
        ("resnet", "transformer_fpn", {"TransformerEncoderLayer": 3, "MaskedAttentionLayer": 5}),
        ("dinov2", "fpn", {"Dinov2Layer": 4, "MaskedAttentionLayer": 5}),
    ],
)
def test_every_layer_is_computed_again_and_only_in_training(monkeypatch, backbone, pixel_decoder, layers):
    model = made(backbone, pixel_decoder=pixel_decoder)
    assert not is_on(model)
    switch_recomputing(model)
    assert is_on(model)
    computed = {}
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            name = type(module).__name__
            assert module._gradient_checkpointing_func.keywords == {"use_reentrant": False}
            # Its feed-forward network is called within the layer, and so once more in the backward pass.
            inner = module.mlp if name == "Dinov2Layer" else module.feed_forward
            inner.register_forward_hook(lambda *_, name=name: computed.__setitem__(name, computed.get(name, 0) + 1))
    forward(model).loss.backward()
    assert computed == {name: 2 * count for name, count in layers.items()}
    computed.clear()
    forward(model.eval()).loss.backward()
    assert computed == layers
    computed.clear()
    switch_recomputing(model.train(), on=False)
    assert not is_on(model)
    forward(model).loss.backward()
    assert computed == layers


def saved_bytes(model):
    """Return the size of what a forward pass keeps for the backward pass, weights not counted."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that no other tensor gets the same address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(model)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("backbone", "pixel_decoder", "share"),
    [("resnet", "ms_deform_attn", 0.6), ("resnet", "transformer_fpn", 0.8), ("swin", "ms_deform_attn", 0.4)],
)
def test_less_is_kept_for_the_backward_pass(monkeypatch, backbone, pixel_decoder, share):
    monkeypatch.setenv("UNISEGMENT_KERNELS", "torch")
    model = made(backbone, pixel_decoder=pixel_decoder)
    plain = saved_bytes(model)
    switch_recomputing(model)
    assert saved_bytes(model) < share * plain


def test_other_ways_of_checkpointing_can_be_asked_for():
    model = made()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    layer = model.transformer_decoder.layers[0]
    assert layer._gradient_checkpointing_func.func is checkpoint
    assert layer._gradient_checkpointing_func.keywords == {"use_reentrant": True}
