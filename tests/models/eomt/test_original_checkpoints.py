# SPDX-License-Identifier: Apache-2.0
import re

import pytest
import torch
from safetensors.torch import save_file
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from tests.models.eomt.original_files import MODELS, original_state_dict, stock_model
from unisegment.models.checkpoints import convert, open_checkpoint
from unisegment.models.eomt.checkpoint_conversion import from_original
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation
from unisegment.models.eomt.original_checkpoints import read_original, write_original
from unisegment.ops.weight_files import read_weight_file

_FREE = {
    "architectures", "transformers_version", "dtype", "model_type", "_name_or_path", "rope_parameters", "mlp_ratio",
    "use_gated_mlp", "use_swiglu_ffn", "hidden_act", "intermediate_size",
}  # fmt: skip


def read(path, **options):
    return read_original(read_weight_file(path), path, **options)


def written(tmp_path, state_dict, name="pytorch_model.bin"):
    torch.save(state_dict, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", MODELS)
def test_everything_follows_from_the_weights(tmp_path, name):
    stock = stock_model(name)
    path = written(tmp_path, original_state_dict(stock))
    image_size = {"image_size": 80, "base": False} if name.startswith("dinov3") else {}
    config, weights = read(path, **image_size)
    for key, value in stock.config.to_dict().items():
        if key not in _FREE:
            assert getattr(config, key) == value, key
    ours = UniSegmentEomtForUniversalSegmentation(config).eval()
    ours.load_state_dict(weights)
    assert config.base_weights == [{"name": "pytorch_model.bin", "license": "mit"}]
    pixel_values = torch.randn(2, 3, 80, 80)
    with torch.no_grad():
        found, expected = ours(pixel_values), stock(pixel_values)
    if name == "dinov3 gated":  # where transformers has the activation of the gate in all other parts, the authors not
        assert (config.hidden_act, config.feed_forward_activation) == ("gelu", "silu")
        return
    for key in ("class_queries_logits", "masks_queries_logits"):
        assert (found[key] - expected[key]).abs().max() <= 1e-4 * expected[key].abs().max()


@pytest.mark.parametrize("form", ["checkpoint of lightning", "safetensors", "compiled"])
def test_every_form_of_files(tmp_path, form):
    state_dict = original_state_dict(stock_model("dinov2"))
    if form == "safetensors":
        path = tmp_path / "model.safetensors"
        save_file({name: value.contiguous() for name, value in state_dict.items()}, path)
    elif form == "compiled":
        path = written(tmp_path, {name.replace("network.", "network._orig_mod."): t for name, t in state_dict.items()})
    else:
        further = {"epoch": 3, "global_step": 5, "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-4}]}]}
        path = written(tmp_path, {"state_dict": state_dict, **further}, "last.ckpt")
    config, weights = read(path)
    assert weights.keys() == from_original(state_dict).keys()
    assert (config.num_queries, config.no_object_weight) == (7, 0.2)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "dinov2 without registers"])
@pytest.mark.parametrize("suffix", [".bin", ".pth", ".pt"])
def test_what_is_written_is_what_the_authors_write(tmp_path, name, suffix):
    theirs = original_state_dict(stock_model(name))
    options = {"base": False, "image_size": 80} if name.startswith("dinov3") else {}
    config, weights = read(written(tmp_path, theirs), **options, num_attention_heads=4)
    write_original(tmp_path / f"ours{suffix}", config, weights)
    found = torch.load(tmp_path / f"ours{suffix}", weights_only=True)["state_dict"]
    assert found.keys() == theirs.keys()
    for key in theirs:
        assert torch.equal(found[key], theirs[key]) or ".pixel_" in key, key
    assert found["network.encoder.pixel_std"].flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    again, same = read(tmp_path / f"ours{suffix}")  # it says what weights do not tell, and that they are whole
    assert (again.num_attention_heads, again.image_size) == (4, 80)
    assert again.to_dict() == config.to_dict()
    assert all(torch.equal(value, weights[key]) for key, value in same.items())


def test_the_one_door_opens_and_writes_them(tmp_path):
    stock = stock_model("dinov2")
    path = written(tmp_path, original_state_dict(stock))
    model, processor = open_checkpoint(path, id2label=dict(enumerate("abcde")))
    assert type(model) is UniSegmentEomtForUniversalSegmentation
    assert (processor.id2label[4], model.config.id2label[4]) == ("e", "e")
    model.export_original(tmp_path / "back.bin")
    back, expected = read_weight_file(tmp_path / "back.bin")["state_dict"], read_weight_file(path)
    assert back.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) or ".pixel_" in name for name, value in back.items())
    convert(path, tmp_path / "stock", to="transformers")
    again = type(stock).from_pretrained(tmp_path / "stock").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in stock.state_dict().items())


def dinov3(folder, **keys):
    sizes = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, "num_register_tokens": 2}
    torch.manual_seed(7)
    model = DINOv3ViTModel(DINOv3ViTConfig(**{**sizes, "intermediate_size": 80, "patch_size": 16, **keys}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def test_differences_are_added_to_dinov3(tmp_path):
    base, whole = dinov3(tmp_path / "dinov3"), original_state_dict(stock_model("dinov3"))
    differences = dict(whole)
    for name, value in base.state_dict().items():
        if "mask_token" in name:
            continue
        place = name.replace("embeddings.", "patch_embed.", 1) if name.startswith("embeddings.") else name
        place = re.sub(r"^(model\.)?layer\.", "blocks.", place)
        differences[f"network.encoder.backbone.{place}"] = whole[f"network.encoder.backbone.{place}"] - value
    path = written(tmp_path, differences)
    config, weights = read(path, base=str(tmp_path / "dinov3"))
    expected = from_original(whole)
    model = UniSegmentEomtForUniversalSegmentation.from_original(
        path, base=str(tmp_path / "dinov3"), image_size=80, license="apache-2.0", num_attention_heads=4, num_queries=7
    )
    assert (model.config.image_size, model.config.num_attention_heads) == (80, 4)
    assert [record["license"] for record in model.config.base_weights] == ["apache-2.0", "unknown"]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert weights.keys() == expected.keys()
    assert all(torch.allclose(value, expected[key], atol=1e-6) for key, value in weights.items())
    assert [record["name"] for record in config.base_weights] == ["pytorch_model.bin", "dinov3"]
    with pytest.raises(ValueError, match=r"nothing tells whether .*\.from_original, with base='facebook/dinov3-vitl16"):
        read(path)
    dinov3(tmp_path / "other", intermediate_size=96)
    with pytest.raises(
        ValueError, match=r"base: '.+other' is another model: backbone\.layers\.0\..+ is .+96.* there, "
    ):
        read(path, base=str(tmp_path / "other"))
    dinov3(tmp_path / "deeper", num_hidden_layers=4)
    with pytest.raises(ValueError, match=r"another model: backbone\.layers\.3\..+ there, None here\."):
        read(path, base=str(tmp_path / "deeper"))
    write_original(tmp_path / "ours.pth", config, weights)
    with pytest.raises(ValueError, match=r"base: 'x', but '.+ours\.pth' is a file of ours, whose weights are whole"):
        read(tmp_path / "ours.pth", base="x")
    with pytest.raises(ValueError, match=r"base: 'x', but only files with DINOv3 are to be added to other weights"):
        read(written(tmp_path, original_state_dict(stock_model("dinov2"))), base="x")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "network.encoder.backbone.pos_embed",
            (1, 24, 128),
            "table of positions has 24 rows, expected those of a square",
        ),
        ("network.attn_mask_probs", None, "The weight 'attn_mask_probs' is missing"),
        ("network.class_head.weight", None, r"The weight 'predictor\.class_head\.weight' is missing"),
        (
            "network.q.weight",
            (7, 100),
            "hidden_size 100 is no multiple of 64, which heads have. Say num_attention_heads",
        ),
        ("network.q.weight", (7,), r"'queries\.weight' has shape \(7,\): there is nothing along axis 1"),
        ("network.encoder.backbone.blocks.0.attn.qkv.weight", (4, 128), "must be a multiple of 3, got shape"),
        ("criterion.empty_weight", (2, 2), r"criterion\.empty_weight has shape \(2, 2\), expected one of each class"),
        ("network.encoder.backbone.blocks.700.norm1.weight", (1,), "num_hidden_layers: 701, expected a whole number"),
    ],
)
def test_weights_that_contradict_each_other_are_named(tmp_path, name, shape, message):
    state_dict = original_state_dict(stock_model("dinov2"))
    state_dict.pop(name, None)
    if shape is not None:
        state_dict[name] = torch.ones(shape)
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, state_dict))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_act": "relu"}, "authors' EoMT has hidden_act='gelu' only here, this model has 'relu'"),
        ({"use_gated_mlp": True}, "use_gated_mlp=False only"),
        ({"num_upscale_blocks": 1}, "num_upscale_blocks=2 only here, this model has 1"),
        ({"key_bias": False}, "key_bias=True only here"),
        ({"position_encoding": "rope"}, "layer_norm_eps=1e-05 only here, this model has 1e-06"),
        ({"position_encoding": "rope", "layer_norm_eps": 1e-5, "rope_theta": 5}, r"rope_theta=100\.0 only"),
        ({"num_channels": 4}, "num_channels=3 only"),
    ],
)
def test_what_the_authors_code_cannot_be_is_named(tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        write_original(tmp_path / "model.pth", UniSegmentEomtConfig(**keys), {})
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"model\.safetensors' must end with one of \.bin, \.pth, \.pt\."):
        write_original(tmp_path / "model.safetensors", UniSegmentEomtConfig(), {})
