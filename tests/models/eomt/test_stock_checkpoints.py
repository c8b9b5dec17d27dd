# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import EomtConfig, EomtDinov3Config

from tests.models.eomt.original_files import MODELS, stock_model
from unisegment.models.eomt.checkpoint_conversion import split_gates
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation
from unisegment.models.eomt.stock_checkpoints import (
    config_to_eomt,
    config_to_eomt_dinov3,
    read_eomt_config,
    read_eomt_dinov3_config,
)


@pytest.fixture(params=["dinov2", "dinov2 gated", "dinov3", "dinov3 gated"])
def stock(request):
    return stock_model(request.param)


def logits(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        output = model(torch.randn(2, 3, 80, 80, generator=generator))
    return output.class_queries_logits, output.masks_queries_logits


def assert_same_logits(ours, theirs):
    for one, other in zip(logits(ours.eval()), logits(theirs.eval()), strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


@pytest.mark.parametrize("layout", ["as saved", "older", "bin", "sharded"])
def test_every_stock_layout_loads(stock, tmp_path, layout):
    stock.save_pretrained(tmp_path, max_shard_size="100KB" if layout == "sharded" else "1GB")
    file = tmp_path / "model.safetensors"
    if layout == "sharded":
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
    elif layout == "bin":
        torch.save(load_file(file), tmp_path / "pytorch_model.bin")
        file.unlink()
    elif layout == "older":  # without probabilities of masks, two layers of gated networks in one tensor
        stock.attn_mask_probs.fill_(1)
        tensors = load_file(file)
        del tensors["attn_mask_probs"]
        for name in [name for name in tensors if ".mlp.gate_proj." in name and stock.config.model_type == "eomt"]:
            parts = [tensors.pop(name), tensors.pop(name.replace("gate_proj", "up_proj"))]
            tensors[name.replace("gate_proj", "weights_in")] = torch.cat(parts)
            down = name.replace("gate_proj", "down_proj")
            tensors[down.replace("down_proj", "weights_out")] = tensors.pop(down)
        save_file(tensors, file, metadata={"format": "pt"})
    ours = UniSegmentEomtForUniversalSegmentation.from_pretrained(tmp_path)
    assert (ours.config.model_type, ours.config.architectures) == ("unisegment_eomt", None)
    assert ours.attn_mask_probs.tolist() == stock.attn_mask_probs.tolist()
    assert_same_logits(ours, stock)


def test_a_stock_checkpoint_comes_back_as_it_was(stock, tmp_path):
    stock.config.id2label = dict(enumerate("abcde"))
    stock.config.label2id = {name: label for label, name in stock.config.id2label.items()}
    stock.save_pretrained(tmp_path / "stock")
    ours = UniSegmentEomtForUniversalSegmentation.from_pretrained(tmp_path / "stock")
    ours.save_pretrained(tmp_path / "ours")
    again = UniSegmentEomtForUniversalSegmentation.from_pretrained(tmp_path / "ours")
    again.save_pretrained(tmp_path / "back", format="transformers")
    theirs, report = type(stock).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal(theirs.state_dict(), stock.state_dict())
    files = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("stock", "back")]
    assert files[0].items() <= files[1].items()
    assert_same_logits(again, theirs)


def test_keys_of_ours_survive_in_a_stock_checkpoint(tmp_path):
    ours = read_eomt_config(stock_model("dinov2").config.to_dict())[1]
    ours.categories = [{"id": 3 * label, "name": name, "isthing": 1} for label, name in ours.id2label.items()]
    ours.attn_mask_annealing_start, ours.loss_normalization = [0.1, 0.2], "rank"
    config_to_eomt(ours).save_pretrained(tmp_path)
    _, again = read_eomt_config(json.loads((tmp_path / "config.json").read_text()))
    kept = ("categories", "attn_mask_annealing_start", "loss_normalization", "num_blocks", "no_object_weight")
    assert {key: getattr(again, key) for key in kept} == {key: getattr(ours, key) for key in kept}


def test_half_precision_and_weights_that_are_handed_over(tmp_path):
    theirs = stock_model("dinov3 gated")
    theirs.bfloat16().save_pretrained(tmp_path / "stock")
    ours = UniSegmentEomtForUniversalSegmentation.from_pretrained(tmp_path / "stock", dtype="auto")
    assert ours.dtype == torch.bfloat16
    weights = {name: value + 1 for name, value in ours.state_dict().items()}
    ours.save_pretrained(tmp_path / "back", format="transformers", state_dict=weights)
    again = type(theirs).from_pretrained(tmp_path / "back", dtype="auto")
    assert again.dtype == torch.bfloat16
    assert torch.equal(again.query.weight, weights["queries.weight"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"position_encoding": "rope"},
            "transformers' EoMT has position_encoding='learned' only, this model has 'rope'",
        ),
        ({"use_gated_mlp": True}, "transformers' EoMT has use_gated_mlp=False only, this model has True"),
        ({"key_bias": False}, "transformers' EoMT has key_bias=True only, this model has False"),
        ({"mlp_ratio": 2.5}, r"has a whole mlp_ratio only, this model has .* of 160 channels for a hidden_size of 64"),
    ],
)
def test_what_eomt_cannot_be_is_named(keys, message):
    config = UniSegmentEomtConfig(hidden_size=64, num_attention_heads=2, **keys)
    with pytest.raises(ValueError, match=message):
        config_to_eomt(config)


def test_what_eomt_dinov3_cannot_be_is_named():
    with pytest.raises(ValueError, match="transformers' EoMT-DINOv3 has position_encoding='rope' only, this model has"):
        config_to_eomt_dinov3(UniSegmentEomtConfig())
    config = UniSegmentEomtConfig(position_encoding="rope", use_swiglu_ffn=True)
    with pytest.raises(
        ValueError, match="one activation for all parts, this model has hidden_act='gelu' and, with use"
    ):
        config_to_eomt_dinov3(config)
    config.hidden_act = "silu"
    assert config_to_eomt_dinov3(config).use_gated_mlp is True
    assert config_to_eomt_dinov3(config).intermediate_size == 2736


def test_widths_that_a_ratio_stands_for_are_written_as_one():
    for keys in ({"intermediate_size": 192}, {"intermediate_size": 128, "use_swiglu_ffn": True}, {"mlp_ratio": 3.0}):
        theirs = config_to_eomt(UniSegmentEomtConfig(hidden_size=64, num_attention_heads=2, **keys))
        assert theirs.mlp_ratio == 3


@pytest.mark.parametrize("read", [read_eomt_config, read_eomt_dinov3_config])
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_size": None}, r"hidden_size: None, expected a whole number from 1 to 32768\."),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: 1000000000, expected"),
        ({"image_size": [640, 640]}, r"image_size: \[640, 640\], expected a whole number"),
        ({"hidden_act": "os.system"}, "hidden_act: 'os.system', expected an activation"),
        ({"num_blocks": 30}, "num_blocks must be at most num_hidden_layers"),
        ({"to_dict": 1}, "'to_dict' is the name of a part of Eomt"),
        ({"attn_implementation": "some/kernels"}, "attn_implementation"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps: 'x', expected a number"),
    ],
)
def test_impossible_values_of_a_stock_config_are_named(read, keys, message):
    with pytest.raises(ValueError, match=message):
        read({"model_type": "any", **keys})


@pytest.mark.parametrize(
    "rotation",
    [5, {"rope_theta": -1}, {"rope_type": "yarn", "rope_theta": 5.0}, {"rope_theta": "x"}, {"rope_type": []}],
)
def test_other_rotations_are_refused(rotation):
    with pytest.raises(ValueError, match=r"rope_parameters: .*, expected a mapping with rope_theta, a number above 0"):
        read_eomt_dinov3_config({"rope_parameters": rotation})


def test_whole_numbers_may_stand_for_floats_and_the_base_may_stand_alone():
    theirs, ours = read_eomt_dinov3_config({"rope_theta": 50, "mask_weight": 2, "hidden_size": 64})
    assert (theirs.rope_parameters["rope_theta"], ours.rope_theta) == (50, 50)
    assert (theirs.mask_weight, ours.mask_weight) == (2, 2)
    assert read_eomt_config({"mask_weight": 3})[1].mask_weight == 3
    ours.pos_embed_shift = ours.layerscale_value = 1
    assert config_to_eomt_dinov3(ours).pos_embed_shift == 1


def test_weights_that_do_not_fit_the_config_are_named(tmp_path):
    stock_model("dinov2").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(ValueError, match=r"do not fit the config: 18 are missing .*layers\.3\."):
        UniSegmentEomtForUniversalSegmentation.from_pretrained(tmp_path)
    file.write_text(json.dumps({**config, "num_queries": 9}))
    with pytest.raises(ValueError, match=r"another shape \(first: \['queries\.weight is \(7, 128\), expected \(9, 128"):
        UniSegmentEomtForUniversalSegmentation.from_pretrained(tmp_path)


def test_models_of_all_kinds_are_covered():
    for kind in (EomtConfig, EomtDinov3Config):
        assert any(isinstance(config, kind) for _, config in MODELS.values())
    assert any(".mlp.gate_proj." in name for name in split_gates(stock_model("dinov2 gated").state_dict()))
