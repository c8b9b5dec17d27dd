# SPDX-License-Identifier: Apache-2.0
import re

import pytest
import torch

from tests.models.eomt.original_files import MODELS, original_state_dict, stock_model
from unisegment.models.eomt.checkpoint_conversion import (
    ORIGINAL_NAMES,
    STOCK_NAMES,
    from_original,
    from_stock,
    original_name,
    owns,
    split_gates,
    to_original,
    to_stock,
)
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation
from unisegment.models.eomt.stock_checkpoints import read_eomt_config, read_eomt_dinov3_config


def config_of(model):
    read = read_eomt_config if model.config.model_type == "eomt" else read_eomt_dinov3_config
    return read(model.config.to_dict())[1]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


@pytest.mark.parametrize("name", MODELS)
def test_stock_names_map_one_to_one(name):
    model = stock_model(name)
    config, theirs = config_of(model), model.state_dict()
    ours = from_stock(theirs, config)
    with torch.device("meta"):
        expected = UniSegmentEomtForUniversalSegmentation(config).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in expected.items()}
    del theirs["criterion.empty_weight"]
    assert_equal(split_gates(to_stock(ours, config)), split_gates(theirs))
    assert_equal(from_stock(to_stock(ours, config), config), ours)


@pytest.mark.parametrize("name", MODELS)
def test_original_names_are_those_of_the_stock_model(name):
    model = stock_model(name)
    theirs = original_state_dict(model)
    assert owns(theirs)
    ours, expected = from_original(theirs), from_stock(model.state_dict(), config_of(model))
    assert ours.keys() == expected.keys()
    assert all(torch.allclose(value, expected[key], atol=1e-6) for key, value in ours.items())
    back = to_original(ours, config_of(model))
    without_weights = re.compile(r"criterion\..+|.+\.pixel_(mean|std)")
    assert back.keys() == {name for name in theirs if not without_weights.fullmatch(name)}
    assert_equal(from_original(back), ours)
    if name != "dinov2 without registers":  # where the position of the class token became a part of it
        assert_equal(back, {key: theirs[key] for key in back})


@pytest.mark.parametrize("form", ["network._orig_mod.{}", "module.network.{}", "network.{}"])
def test_names_of_compiled_and_parallel_models_are_known(form):
    model = stock_model("dinov3")
    theirs = original_state_dict(model)
    renamed = {re.sub(r"^network\.(.+)", lambda match: form.format(match[1]), name): t for name, t in theirs.items()}
    assert owns(renamed)
    assert {original_name(name) for name in renamed} == theirs.keys()
    assert_equal(from_original(renamed), from_original(theirs))


def test_gates_of_older_releases_are_read_and_written():
    # As Eomt of transformers 5.15 names them: two layers in one tensor, the gate first.
    model = stock_model("dinov2 gated")
    config, today = config_of(model), split_gates(model.state_dict())
    older = {}
    for name, value in today.items():
        if ".mlp.gate_proj." in name:
            joined = torch.cat([value, today[name.replace("gate_proj", "up_proj")]])
            older[name.replace("gate_proj", "weights_in")] = joined
        elif ".mlp.up_proj." not in name:
            older[name.replace("down_proj", "weights_out")] = value
    assert_equal(from_stock(older, config), from_stock(today, config))
    del older["criterion.empty_weight"]
    assert_equal(to_stock(from_stock(today, config), config, of=older), older)


def test_masks_without_probabilities_are_those_of_transformers():
    model = stock_model("dinov2")
    weights = model.state_dict()
    del weights["attn_mask_probs"]
    assert from_stock(weights, config_of(model))["attn_mask_probs"].tolist() == [1, 1]


def test_no_name_is_there_twice():
    for names in [*STOCK_NAMES.values(), *ORIGINAL_NAMES.values()]:
        for side in (0, 1):
            listed = [pair[side] for pair in (*names.pairs, *names.fused)]
            assert len(listed) == len(set(listed))


def test_what_is_wrong_with_names_is_said():
    model = stock_model("dinov3")
    with pytest.raises(ValueError, match=r"EoMT-DINOv3 of transformers has no weights named 'roi_heads\.fc1\.weight'"):
        from_stock({"roi_heads.fc1.weight": torch.zeros(1)}, config_of(model))
    with pytest.raises(ValueError, match=r"not a checkpoint of the authors' EoMT: it has no weight network\.q\.weight"):
        from_original({"model.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"authors' EoMT with DINOv3 has no weights named 'network\.x'"):
        from_original({"network.q.weight": torch.zeros(1, 1), "network.x": torch.zeros(1)})
    with pytest.raises(
        ValueError, match=r"'layers\.0\.mlp\.weights_in\.bias' holds two layers.*even, got shape \(3,\)"
    ):
        split_gates({"layers.0.mlp.weights_in.bias": torch.zeros(3)})
    flat = {**original_state_dict(model), "network.encoder.backbone.patch_embed.cls_token": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"'backbone\.cls_token' has shape \(4,\), expected \(1, tokens, 4\)\."):
        from_original(flat)
