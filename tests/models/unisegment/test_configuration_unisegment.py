# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import fields

import pytest
from transformers import ConvNextConfig, Mask2FormerConfig, ResNetConfig, SwinConfig

from unisegment import UniSegmentConfig
from unisegment.models.unisegment.stock_checkpoints import config_from_stock, config_to_stock


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
        ({"num_queries": 0}, "num_queries: 0, expected a whole number from 1 to 100000"),
        ({"feature_size": 48}, "feature_size must be a multiple of 32"),
        ({"hidden_dim": 60}, r"hidden_dim must be a multiple of num_attention_heads \(8\)"),
        ({"common_stride": 8}, "Masks have stride 4"),
        ({"num_feature_levels": 5}, "num_feature_levels must be 1 to 4"),
        ({"importance_sample_ratio": 1.5}, "importance_sample_ratio: 1.5, expected a number from 0 to 1"),
        ({"decoder_layers": 0}, "decoder_layers: 0, expected a whole number from 1 to 500"),
        ({"decoder_layers": 10_000_000}, "decoder_layers: 10000000, expected a whole number from 1 to 500"),
        ({"num_queries": 100_000_000}, "num_queries: 100000000, expected a whole number from 1 to 100000"),
        ({"num_labels": 100_000_000}, "num_labels: 100000000, expected"),
        ({"num_attention_heads": 0}, "num_attention_heads: 0, expected a whole number from 1 to 1024"),
        ({"hidden_size": -4}, "hidden_dim: -4, expected"),
        ({"decoder_layers": True}, "decoder_layers: True, expected a whole number"),
        ({"pre_norm": 1}, "pre_norm: 1, expected true or false"),
        ({"class_weight": float("nan")}, "class_weight: nan, expected a number from 0"),
        ({"dropout": [0.1]}, r"dropout: \[0.1\], expected a number"),
        ({"feature_strides": {"4": 8}}, "feature_strides: {'4': 8}, expected a list of 1 to 32 entries"),
        ({"activation_function": "os.system"}, "activation_function: 'os.system', expected an activation"),
        ({"dtype": "save"}, "dtype: 'save', expected the name of a dtype"),
        ({"attn_implementation": "somebody/kernels"}, "attn_implementation: 'somebody/kernels', expected a name"),
        (
            {"backbone_config": {"model_type": "swin", "depths": [1, 1, 2147483647, 1]}},
            r"backbone_config.depths\[2\]: 2147483647, expected a whole number from 0 to 500",
        ),
        ({"backbone_config": {"model_type": "swin", "depths": [200, 200, 200, 1]}}, "601 layers in all"),
        ({"backbone_config": {"model_type": "dinov2", "num_hidden_layers": 10**9}}, "num_hidden_layers: 1000000000"),
        ({"backbone_config": {"model_type": "swin", "embed_dim": "wide"}}, "backbone_config: .*'embed_dim'"),
        ({"backbone_config": {"model_type": ["swin"]}}, "backbone_config needs a model_type"),
        ({"backbone_config": {"model_type": "swin", "x": float("inf")}}, "backbone_config.x: inf, expected"),
        ({"backbone_config": {"model_type": "dinov2", "num_attention_heads": -1}}, "num_attention_heads: -1, expected"),
        ({"backbone_config": {"model_type": "swin", "stage_names": 1}}, "stage_names: 1, expected a list"),
        (
            {"backbone_config": {"model_type": "swin", "output_hidden_states": "x"}},
            "output_hidden_states: 'x', expected",
        ),
        ({"backbone_config": {"model_type": "swin", "dtype": [1]}}, r"dtype=\[1\] is no type of torch"),
        ({"backbone_config": ["swin"]}, r"backbone_config: \['swin'\], expected a mapping"),
        ({"pixel_decoder": "bifpn"}, "pixel_decoder"),
        ({"num_queries": "many"}, "num_queries"),
        ({"backbone_config": {"depths": [1]}}, "backbone_config needs a model_type"),
        ({"id2label": {1: "cow", 2: "dog"}}, r"id2label must number the labels from 0 without a gap.* got \[1, 2\]"),
        ({"id2label": {0: "cow", 1: None}}, "id2label: {0: 'cow', 1: None}, expected a mapping of labels to names"),
        ({"id2label": {"x": "cow"}}, "id2label: {'x': 'cow'}, expected"),
    ],
)
def test_impossible_values_are_named(keys, message):
    with pytest.raises(ValueError, match=message):
        UniSegmentConfig(**keys)
    if keys.keys() <= {"num_queries", "decoder_layers", "pre_norm", "class_weight", "dropout"}:
        config = UniSegmentConfig()
        with pytest.raises(ValueError, match=message):
            setattr(config, *next(iter(keys.items())))
        with pytest.raises(ValueError, match=message):
            UniSegmentConfig.from_dict({}, **keys)


def test_names_of_labels_are_texts_in_the_order_of_the_labels():
    config = UniSegmentConfig(id2label={1: "dog", 0: 7})
    assert list(config.id2label.items()) == [(0, "7"), (1, "dog")]
    assert config.label2id == {"7": 0, "dog": 1}


ANIMALS = [{"id": 7, "name": "cow", "isthing": 1}, {"id": 0, "name": "grass-merged", "isthing": 0}]


def test_categories_name_the_classes_and_survive_a_round_trip(tmp_path):
    config = UniSegmentConfig(categories=[{**ANIMALS[0], "color": [1, 2, 3]}, ANIMALS[1]])
    assert config.id2label == {0: "cow", 1: "grass-merged"}
    assert config.categories == ANIMALS
    config.save_pretrained(tmp_path)
    again = UniSegmentConfig.from_pretrained(tmp_path)
    assert (again.categories, again.id2label) == (ANIMALS, config.id2label)
    stock = Mask2FormerConfig.from_dict(config_to_stock(config).to_dict())
    assert UniSegmentConfig.from_dict(config_from_stock(stock.to_dict())).categories == ANIMALS


@pytest.mark.parametrize(
    ("keys", "categories"),
    [
        ({"id2label": {0: "grass", 1: "Cow"}}, [{**ANIMALS[1], "name": "grass"}, {**ANIMALS[0], "name": "Cow"}]),
        ({"id2label": {0: "grass"}}, [{**ANIMALS[1], "name": "grass"}]),
        ({"id2label": {0: "cow", 1: "dog"}}, None),
        ({"id2label": {0: "cow", 1: 7}}, None),
        ({"num_labels": 2}, None),
        ({"num_queries": 7}, ANIMALS),
        ({"id2label": {0: "dog"}, "categories": [{"id": 3, "name": "dog", "isthing": 1}]}, "own"),
    ],
)
def test_categories_follow_the_names_of_classes(keys, categories):
    config = UniSegmentConfig.from_dict(UniSegmentConfig(categories=ANIMALS).to_dict(), **keys)
    assert config.categories == (keys["categories"] if categories == "own" else categories)
    # Classes may be renamed without a word, too.
    config = UniSegmentConfig(categories=ANIMALS)
    config.id2label = {0: "dog", 1: "cow"}
    assert UniSegmentConfig.from_dict(config.to_dict()).categories is None


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (
            [{"id": 1, "name": "cow"}],
            r"categories must be a list of .*got \[\{'id': 1, 'name': 'cow'\}\]: isthing is missing\.",
        ),
        ([{"id": 1, "name": None, "isthing": 1}], "the name of a category must be a text of 0 to 1024 characters"),
        ([ANIMALS[0], {**ANIMALS[1], "id": 7}], r"categories must have different ids, got several of \[7\]"),
        (ANIMALS[::-1], r"must have the names of id2label, in its order, got \['grass-merged', 'cow'\] and \['cow'"),
        (ANIMALS[:1], "must have the names of id2label"),
    ],
)
def test_categories_that_cannot_be_those_of_the_classes_are_refused(categories, message):
    with pytest.raises(ValueError, match=message):
        UniSegmentConfig(categories=categories, id2label={0: "cow", 1: "grass-merged"})


@pytest.mark.parametrize("config_class", [ResNetConfig, SwinConfig, ConvNextConfig])
def test_backbones_give_all_stages_unless_told_otherwise(config_class):
    config = UniSegmentConfig(backbone_config=config_class())
    assert list(config.backbone_config.out_features) == ["stage1", "stage2", "stage3", "stage4"]


def test_a_backbone_that_is_not_there_is_one_line():
    with pytest.raises(FileNotFoundError, match=r"^no/such/folder/at/all does not exist\.$"):
        UniSegmentConfig(backbone="no/such/folder/at/all")


def test_a_key_that_is_like_no_other_gets_no_advice():
    with pytest.raises(ValueError, match=r"^'xyz' is not a key of UniSegmentConfig\.$"):
        UniSegmentConfig(xyz=1)


def test_a_backbone_is_overridden_key_by_key():
    base = UniSegmentConfig(backbone_config=ResNetConfig(depths=[1, 1, 1, 1], embedding_size=8)).to_dict()
    changed = UniSegmentConfig.from_dict(base, backbone_config={"depths": [2, 1, 1, 1]}).backbone_config
    assert (changed.depths, changed.embedding_size) == ([2, 1, 1, 1], 8)
    other = UniSegmentConfig.from_dict(base, backbone_config={"model_type": "swin", "depths": [1, 1, 1, 1]})
    assert other.backbone_config.to_dict()["model_type"] == "swin"
    assert not hasattr(other.backbone_config, "embedding_size")
    for change, message in (({"depths": "x"}, "'depths'"), ({"depths": [2**31, 1, 1, 1]}, r"depths\[0\]: 2147483648")):
        with pytest.raises(ValueError, match=rf"^backbone_config.*{message}"):
            UniSegmentConfig.from_dict(base, backbone_config=change)
