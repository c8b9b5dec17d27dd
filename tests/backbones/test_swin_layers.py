# SPDX-License-Identifier: Apache-2.0
"""transformers' own Swin is the oracle."""

import copy
from unittest import mock

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import statically_known_true
from transformers import AutoBackbone, SwinConfig

from tests.backbones.small_configs import STAGES, STRIDES
from unisegment.backbones import swin_layers
from unisegment.backbones.transformers_backbone import TransformersBackbone
from unisegment.ops.fused_products import fuses, plain_products

needs_onednn = pytest.mark.skipif(
    not torch.inference_mode()(fuses)(torch.ones(1)), reason="this processor, or this torch, has no fused functions"
)


def make_pair(window=7, out_features=STAGES, **keys):
    """Return ours and theirs with the same weights, of which biases and norms show."""
    config = SwinConfig(
        embed_dim=24, depths=[2, 1, 2, 2], num_heads=[1, 2, 4, 8], window_size=window, out_features=out_features,
        drop_path_rate=0.5, **keys,
    )  # fmt: skip
    theirs = AutoBackbone.from_config(copy.deepcopy(config)).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in theirs.named_parameters():
        if "bias" in name or "norm" in name:
            parameter.data.normal_(generator=generator)
        else:
            parameter.data.mul_(4)
    ours = TransformersBackbone(config, STRIDES[4 - len(out_features) :], freeze_norm=False).eval()
    ours.body.load_state_dict(theirs.state_dict(), strict=False)
    return ours, theirs


@pytest.fixture(scope="module")
def pair():
    return make_pair()


def assert_close(ours, theirs, images, share=1e-5):
    with torch.no_grad():
        found, expected = ours(images), theirs(images).feature_maps
    for ours_map, theirs_map in zip(found, expected, strict=True):
        assert ours_map.shape == theirs_map.shape
        assert (ours_map - theirs_map).abs().max() <= share * theirs_map.abs().max()


# A map that windows divide, maps with padding, one column of windows, less than a window, and a padding so wide that
# the shift moves it into the last window but one.
@pytest.mark.parametrize("size", [(224, 448), (150, 231), (20, 260), (9, 13), (116, 88)])
def test_maps_are_those_of_transformers(pair, size):
    assert_close(*pair, torch.randn(2, 3, *size))


@pytest.mark.parametrize(
    "keys",
    [
        {"window": 12},
        {"window": 4, "use_absolute_embeddings": True, "image_size": (120, 200)},
        {"qkv_bias": False, "hidden_act": "relu"},
        {"out_features": STAGES[1:]},
    ],
)
def test_maps_of_other_configs_are_those_of_transformers(keys):
    assert_close(*make_pair(**keys), torch.randn(1, 3, 120, 200))


def test_pieces_do_not_show(pair, monkeypatch):
    monkeypatch.setattr(swin_layers, "_PIECE_ELEMENTS", 20_000)
    assert_close(*pair, torch.randn(2, 3, 150, 231))


def test_half_precision_differs_by_its_rounding(pair):
    images, dtype = torch.randn(1, 3, 150, 231), torch.bfloat16
    ours, theirs = (copy.deepcopy(model).to(dtype) for model in pair)
    with torch.no_grad():
        for found, expected, exact in zip(
            ours(images.to(dtype)), theirs(images.to(dtype)).feature_maps, pair[1](images).feature_maps, strict=True
        ):
            assert (found - exact).abs().mean() <= 1.2 * (expected - exact).abs().mean()


@needs_onednn
def test_maps_are_views_of_tokens_and_nothing_is_computed_by_transformers(pair):
    with mock.patch.object(swin_layers.modeling_swin.SwinLayer, "forward", side_effect=AssertionError), torch.no_grad():
        maps = pair[0](torch.randn(2, 3, 70, 101))
    assert all(found.is_contiguous(memory_format=torch.channels_last) for found in maps)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_is_computed_by_what_the_config_names(implementation):
    ours, theirs = make_pair(attn_implementation=implementation)
    ours.body.set_attn_implementation(implementation)
    theirs.set_attn_implementation(implementation)
    images = torch.randn(1, 3, 150, 231)
    sdpa = nn.functional.scaled_dot_product_attention
    with mock.patch.object(nn.functional, "scaled_dot_product_attention", wraps=sdpa) as sdpa:
        assert_close(ours, theirs, images)
    assert (sdpa.call_count > 0) == (implementation == "sdpa")


def test_plain_products_give_the_same_bits(pair):
    images = torch.randn(2, 3, 150, 231)
    with torch.no_grad(), plain_products():
        assert all(map(torch.equal, pair[0](images), pair[1](images).feature_maps))


def test_training_is_that_of_transformers_to_the_bit(pair):
    results = []
    for model in map(copy.deepcopy, pair):
        torch.manual_seed(0)
        images = torch.randn(2, 3, 90, 131, requires_grad=True)
        maps = model.train()(images)
        sum(found.square().mean() for found in getattr(maps, "feature_maps", maps)).backward()
        body = getattr(model, "body", model)
        results.append(
            [images.grad, *(p.grad for n, p in sorted(body.named_parameters()) if "swin.layernorm" not in n)]
        )
    assert all(map(torch.equal, *results))


def test_dropping_paths_without_gradients_is_that_of_transformers(pair):
    images = torch.randn(2, 3, 90, 131)
    ours, theirs = (copy.deepcopy(model).train() for model in pair)
    with torch.no_grad():
        torch.manual_seed(0)
        found = ours(images)
        torch.manual_seed(0)
        expected = theirs(images).feature_maps
    for ours_map, theirs_map in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_map, theirs_map, rtol=1e-4, atol=1e-4)


def test_what_else_is_asked_for_comes_from_transformers():
    ours, theirs = make_pair()
    for model in (ours.body, theirs):
        model.set_attn_implementation("eager")
    images, asked = torch.randn(1, 3, 90, 131), {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        found, expected = ours.body(images, **asked), theirs(images, **asked)
        as_tuple = ours.body(images, return_dict=False)
    for name in ("feature_maps", "hidden_states", "attentions"):
        assert len(found[name]) == len(expected[name]) >= 4
        assert all(map(torch.equal, found[name], expected[name]))
    assert all(map(torch.equal, as_tuple[0], expected.feature_maps))


def test_a_layer_that_stands_in_the_place_of_a_linear_one_is_called(pair):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    ours, theirs = map(copy.deepcopy, pair)
    for body in (ours.body, theirs):
        for layer in body.swin.encoder.layers[0].blocks:
            for owner, name in ((layer.attention, "q_proj"), (layer.attention, "o_proj"), (layer.mlp, "fc2")):
                getattr(owner, name).__class__ = Doubled
    assert_close(ours, theirs, torch.randn(1, 3, 90, 131))


@pytest.mark.parametrize(
    "name", ["swin", "swin.encoder", "swin.encoder.layers.1.blocks.0.attention", "swin.encoder.layers.0.blocks.1.mlp"]
)
def test_hooks_on_what_is_not_called_otherwise_see_and_change_what_they_do_in_transformers(pair, name):
    images, seen = torch.randn(1, 3, 90, 131), []

    def double(module, inputs, outputs):
        seen.append(outputs)
        if "blocks" in name:
            return (2 * outputs[0], *outputs[1:]) if isinstance(outputs, tuple) else 2 * outputs
        return None

    with torch.no_grad():
        plain = pair[1](images).feature_maps
    hooks = [body.get_submodule(name).register_forward_hook(double) for body in (pair[0].body, pair[1])]
    try:
        assert_close(*pair, images)
        with torch.no_grad():
            assert torch.equal(pair[1](images).feature_maps[-1], plain[-1]) == ("blocks" not in name)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(seen) == 3


def test_adapters_of_peft_give_what_they_give_in_transformers(pair):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "fc1", "o_proj"], init_lora_weights=False)
    ours, theirs = map(copy.deepcopy, pair)
    images = torch.randn(1, 3, 90, 131)
    with torch.no_grad():
        plain = theirs(images).feature_maps
    for body in (ours.body, theirs):
        torch.manual_seed(0)
        peft.inject_adapter_in_model(config, body)
    assert_close(ours, theirs, images)
    with torch.no_grad():
        assert (theirs(images).feature_maps[-1] - plain[-1]).abs().mean() > 1e-2


@needs_onednn
def test_weights_of_8_bits_by_torchao_give_what_they_give_in_transformers(pair):
    quantization = pytest.importorskip("torchao.quantization", exc_type=ImportError)
    ours, theirs = map(copy.deepcopy, pair)
    for body in (ours.body, theirs):
        quantization.quantize_(body, quantization.Int8WeightOnlyConfig())
    images = torch.randn(1, 3, 90, 131)
    with torch.no_grad():
        assert not torch.equal(theirs(images).feature_maps[-1], pair[1](images).feature_maps[-1])
    with torch.no_grad(), mock.patch.object(swin_layers.modeling_swin.SwinMLP, "forward", side_effect=AssertionError):
        found = ours(images)
    with torch.no_grad():
        for ours_map, theirs_map in zip(found, theirs(images).feature_maps, strict=True):
            assert (ours_map - theirs_map).abs().max() <= 1e-4 * theirs_map.abs().max()


def test_names_of_classes_stay(pair):
    # transformers finds modules by them: those that stay whole on one device, and those whose outputs it collects.
    names = [[type(module).__name__ for module in model.modules()] for model in (pair[0].body, pair[1])]
    assert [a for a, b in zip(*names, strict=True) if a != b] == ["Identity"]


def test_a_tracer_sees_that_layers_pad_to_whole_windows(pair):
    # With transformers' own sum it does not, and torch.compile of two sizes does not come to an end.
    layer = pair[0].body.swin.encoder.layers[0].blocks[0]
    trace = make_fx(lambda maps: layer.maybe_pad(maps, *maps.shape[1:3])[0], tracing_mode="symbolic")
    padded = next(iter(trace(torch.zeros(2, 31, 41, 17)).graph.find_nodes(op="output"))).args[0].meta["val"]
    assert [statically_known_true(size % layer.window_size == 0) for size in padded.shape[1:3]] == [True, True]
