# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from transformers import Dinov2WithRegistersConfig, DINOv3ViTConfig, DINOv3ViTModel, EomtConfig
from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersEmbeddings
from transformers.models.eomt.modeling_eomt import EomtLayer

from unisegment.models.eomt.vision_transformer import VisionTransformer, resized_positions

SIZES = {"num_layers": 3, "num_heads": 2, "feed_forward_dim": 20, "image_size": (32, 32), "patch_size": 8}
EMBEDDINGS = {"cls_token", "register_tokens", "position_embeddings", "patch_proj"}


def make(**keys):
    torch.manual_seed(0)
    return VisionTransformer(16, **{**SIZES, "num_register_tokens": 2, **keys})


@pytest.mark.parametrize("size", [(32, 32), (48, 16), (24, 80)])
def test_positions_are_resized_as_those_of_dinov2_with_registers(size):
    config = Dinov2WithRegistersConfig(hidden_size=16, image_size=32, patch_size=8, num_attention_heads=2)
    stock = Dinov2WithRegistersEmbeddings(config)
    torch.nn.init.normal_(stock.position_embeddings)
    grid = (size[0] // 8, size[1] // 8)
    expected = stock.interpolate_pos_encoding(torch.zeros(1, 1 + grid[0] * grid[1], 16), *size)[:, 1:]
    found = resized_positions(stock.position_embeddings[:, 1:], (4, 4), grid)
    torch.testing.assert_close(found, expected)


def test_tokens_are_class_registers_and_patches_at_their_places():
    backbone = make()
    torch.nn.init.normal_(backbone.register_tokens)
    image = torch.randn(2, 3, 32, 32)
    tokens, grid = backbone.embed(image)
    assert grid == (4, 4)
    assert tokens.shape == (2, 3 + 16, 16)
    assert torch.equal(tokens[1, :1], backbone.cls_token[0])
    assert torch.equal(tokens[1, 1:3], backbone.register_tokens[0])
    patch = torch.einsum("kcij,cij->k", backbone.patch_proj.weight, image[1, :, 8:16, 24:]) + backbone.patch_proj.bias
    torch.testing.assert_close(tokens[1, 3 + 7], patch + backbone.position_embeddings[0, 7], rtol=1e-4, atol=1e-5)


def test_images_are_padded_to_whole_patches():
    backbone = make()
    image = torch.randn(1, 3, 29, 43)
    tokens, grid = backbone.embed(image)
    assert grid == (4, 6)
    assert torch.equal(tokens, backbone.embed(torch.nn.functional.pad(image, (0, 5, 0, 3)))[0])


@pytest.mark.parametrize("is_gated", [False, True])
def test_dinov3_is_one_of_transformers(is_gated):
    config = DINOv3ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20, image_size=32, patch_size=8,
        num_register_tokens=2, use_gated_mlp=is_gated, layerscale_value=0.7, hidden_act="gelu",
    )  # fmt: skip
    stock = DINOv3ViTModel(config).eval()
    ours = make(
        num_layers=2, position_encoding="rope", rope={"theta": config.rope_theta},
        is_gated=is_gated, attention_biases=(True, False, True, True), norm_eps=config.layer_norm_eps,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        mine = dict(ours.named_parameters())
        parts = {
            "patch_embeddings": "patch_proj", "embeddings.": "", "model.layer.": "layers.", "layer.": "layers.",
            "attention.o_proj": "self_attn.out_proj", "attention.": "self_attn.", ".lambda1": "",
            "mlp.": "feed_forward.",
        }  # fmt: skip
        plain = (
            {}
            if is_gated
            else {"feed_forward.up_proj": "feed_forward.linear1", "feed_forward.down_proj": "feed_forward.linear2"}
        )
        for name, value in stock.named_parameters():
            for theirs, our_part in {**parts, **plain}.items():
                name = name.replace(theirs, our_part)
            if name != "mask_token":
                mine.pop(name).copy_(value)
        assert mine == {}
        image = torch.randn(2, 3, 32, 48)
        tokens, grid = ours.embed(image)
        for layer in ours.layers:
            tokens, _ = layer(tokens, None, ours.rotation(grid))
        torch.testing.assert_close(ours.norm(tokens), stock(image).last_hidden_state, rtol=1e-4, atol=1e-4)


def test_parts_of_a_layer_are_left_out_as_in_transformers():
    stock = EomtLayer(EomtConfig(hidden_size=16, num_attention_heads=2, mlp_ratio=2, drop_path_rate=0.5))
    layer = make(feed_forward_dim=32, drop_path_rate=0.5).layers[0]
    weights = dict(zip(layer.state_dict(), layer.state_dict().values(), strict=True))
    names = {
        "self_attn": "attention", "feed_forward.linear": "mlp.fc",
        "layer_scale1": "layer_scale1.lambda1", "layer_scale2": "layer_scale2.lambda1",
    }  # fmt: skip
    theirs = {}
    for name, value in weights.items():
        for one, other in names.items():
            name = name.replace(one, other)
        theirs[name] = value
    stock.load_state_dict(theirs)
    x, found = torch.randn(8, 5, 16), []
    for call in (lambda: layer(x)[0], lambda: stock(x)):
        torch.manual_seed(4)
        found.append(call())
    torch.testing.assert_close(*found)
    left_out = (found[0] == x).flatten(1).all(1)
    assert 0 < left_out.sum() < 8
    assert not (layer.eval()(x)[0] == x).all(2).any()


@pytest.mark.parametrize(
    ("stages", "learning"),
    [
        (0, EMBEDDINGS | {"layers.0", "layers.1", "layers.2", "norm"}),
        (1, {"layers.0", "layers.1", "layers.2", "norm"}),
        (2, {"layers.1", "layers.2", "norm"}),
        (4, set()),
        ("all", set()),
    ],
)  # fmt: skip
def test_the_first_stages_can_be_frozen(stages, learning):
    backbone = make(dropout=0.5)
    backbone.freeze(stages)
    backbone.train()
    names = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert {".".join(name.split(".")[: 2 if name.startswith("layers") else 1]) for name in names} == learning
    assert backbone.dropout.training == (stages == 0)
    assert backbone.layers[0].training == (stages in (0, 1))


def test_frozen_positions_do_not_move():
    backbone = make(position_encoding="rope", rope={"rescale": 2.0}).train()
    assert not torch.equal(backbone.rotation((3, 4)).cos, backbone.rotation((3, 4)).cos)
    backbone.freeze(1)
    assert torch.equal(backbone.rotation((3, 4)).cos, backbone.rotation((3, 4)).cos)


def test_more_stages_than_there_are_are_named():
    with pytest.raises(ValueError, match=r"frozen_stages=5, but .* only 4 parts .* Give 0 to 4, or 'all'"):
        make().freeze(5)


def test_weights_start_small():
    backbone = VisionTransformer(64, **{**SIZES, "feed_forward_dim": 256, "layer_scale": 0.3})
    layer = backbone.layers[1]
    for weight in (layer.self_attn.q_proj.weight, layer.feed_forward.linear2.weight, backbone.position_embeddings):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (layer.self_attn.v_proj.bias == 0).all()
    assert (layer.layer_scale2 == 0.3).all()
