# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import fields

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import ConvNextConfig, Mask2FormerConfig, ResNetConfig, SwinConfig

from unisegment import UniSegmentConfig


def test_defaults_are_those_of_transformers():
    ours, theirs = UniSegmentConfig(), Mask2FormerConfig()
    for item in fields(Mask2FormerConfig):
        if item.name not in ("backbone_config", "architectures", "transformers_version"):
            assert getattr(ours, item.name) == getattr(theirs, item.name), item.name
    assert ours.backbone_config.to_dict() == theirs.backbone_config.to_dict()


def test_a_config_survives_a_round_trip(tmp_path):
    config = UniSegmentConfig(
        backbone_config=ResNetConfig(depths=[1, 1, 1, 1]), num_queries=7, id2label={0: "sky", 1: "car"},
        pixel_decoder_dtype="autocast", feature_strides=[4, 8, 16, 32],
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    again = UniSegmentConfig.from_pretrained(tmp_path)
    assert again.to_dict() == {**config.to_dict(), "transformers_version": again.transformers_version}
    assert again.backbone_config.depths == [1, 1, 1, 1]
    assert again.num_labels == 2


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("num_querys", "num_queries"), ("hiden_dim", "hidden_dim"), ("freeze_backbone_norms", "freeze_backbone_norm")],
)
def test_an_unknown_key_names_the_nearest_valid_one(key, nearest):
    with pytest.raises(
        ValueError, match=f"'{key}' is not a key of UniSegmentConfig. The nearest valid one is '{nearest}'"
    ):
        UniSegmentConfig(**{key: 1})
    with pytest.raises(ValueError, match=f"'{key}' is not a key"):
        UniSegmentConfig.from_dict({}, **{key: 1})


def test_unknown_keys_of_a_file_are_kept(tmp_path, caplog):
    further = {"tool_version": "1.2", "num_querys": 9, "areas": {"least": 5}}
    config = UniSegmentConfig(backbone_config=ResNetConfig(depths=[1, 1, 1, 1]), num_queries=7)
    config.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | further))
    opened = UniSegmentConfig.from_pretrained(tmp_path)
    changed = UniSegmentConfig.from_pretrained(tmp_path, num_queries=8)
    for one in (opened, changed, UniSegmentConfig.from_json_file(file), UniSegmentConfig.from_dict(opened.to_dict())):
        assert {key: getattr(one, key) for key in further} == further
    assert (opened.num_queries, changed.num_queries) == (7, 8)
    (line,) = [record.getMessage() for record in caplog.records if "does not know" in record.getMessage()]
    assert line.startswith(
        "config.json has keys that this release does not know: 'areas', 'num_querys', 'tool_version'"
    )
    opened.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()).items() >= further.items()


def test_keys_of_transformers_and_legacy_keys_pass():
    config = UniSegmentConfig(
        hidden_size=128, num_hidden_layers=4, num_labels=3, torch_dtype="float32", use_timm_backbone=False,
        max_length=20, tie_word_embeddings=True, auto_map={"AutoConfig": "x.Y"}, _commit_hash="abc",
    )  # fmt: skip
    assert (config.hidden_dim, config.decoder_layers, config.num_labels) == (128, 4, 3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_queries": 0}, "num_queries must be at least 1, got 0"),
        ({"feature_size": 48}, "feature_size must be a multiple of 32"),
        ({"hidden_dim": 60}, r"hidden_dim must be a multiple of num_attention_heads \(8\)"),
        ({"common_stride": 8}, "Masks have stride 4"),
        ({"num_feature_levels": 5}, "num_feature_levels must be 1 to 4"),
        ({"importance_sample_ratio": 1.5}, r"importance_sample_ratio must lie in \[0, 1\], got 1.5"),
        ({"decoder_layers": 0}, "decoder_layers must be at least 1"),
        ({"pixel_decoder": "bifpn"}, "pixel_decoder"),
        ({"num_queries": "many"}, "num_queries"),
        ({"backbone_config": {"depths": [1]}}, "backbone_config needs a model_type"),
        ({"backbone": "no/such/folder/at/all"}, "has no usable config"),
    ],
)
def test_impossible_values_are_named(keys, message):
    # Wrong types are found by huggingface_hub's own validation.
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        UniSegmentConfig(**keys)


@pytest.mark.parametrize("config_class", [ResNetConfig, SwinConfig, ConvNextConfig])
def test_backbones_give_all_stages_unless_told_otherwise(config_class):
    config = UniSegmentConfig(backbone_config=config_class())
    assert list(config.backbone_config.out_features) == ["stage1", "stage2", "stage3", "stage4"]
