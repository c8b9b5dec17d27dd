# SPDX-License-Identifier: Apache-2.0
"""The list of families, and what one knows of itself."""

from dataclasses import replace

import pytest

from unisegment import UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.models.base import FAMILIES
from unisegment.models.choices import FOLDERS
from unisegment.structures import Category

CATEGORIES = [Category(7, "sky", False, (1, 2, 3)), Category(3, "car", True, (4, 5, 6))]
KEYS = {
    "backbone_config": {
        "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1],
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2,
    "num_queries": 17, "dim_feedforward": 24, "encoder_feedforward_dim": 40,
}  # fmt: skip


def test_families_are_found_by_the_type_of_their_configs_and_by_what_they_read():
    assert [*FAMILIES] == [*FOLDERS]
    assert all(family.model_type == model_type for model_type, family in FAMILIES.items())
    mask2former = FAMILIES["unisegment"]
    assert FAMILIES.reading("unisegment") is FAMILIES.reading("mask2former") is mask2former
    assert FAMILIES.reading("detr") is FAMILIES.reading(None) is None
    decoder = "sem_seg_head.predictor.transformer_cross_attention_layers.0.norm.weight"
    assert FAMILIES.owning({decoder: 0}) is mask2former
    assert FAMILIES.owning({"model.0.weight": 0}) is None
    with pytest.raises(ValueError, match=r"no family 'unisegmnt' of models, .* Did you mean 'unisegment'\?"):
        FAMILIES.named("unisegmnt")


def test_a_family_from_outside_joins():
    try:
        FAMILIES.register(replace(FAMILIES["unisegment"], config=type("Other", (), {"model_type": "from_outside"})))
        assert FAMILIES.named("from_outside").name == "Mask2Former"
    finally:
        FAMILIES._others.clear()


def test_a_family_builds_from_keys_and_categories():
    family = FAMILIES["unisegment"]
    model, processor = family.build(KEYS, CATEGORIES, size={"shortest_edge": 64, "longest_edge": 96})
    assert isinstance(model, UniSegmentForUniversalSegmentation)
    assert isinstance(processor, UniSegmentImageProcessor)
    assert model.config.id2label == processor.id2label == {0: "sky", 1: "car"}
    assert [entry["id"] for entry in model.config.categories] == [7, 3]
    assert (processor.stuff_label_ids, processor.num_labels, dict(processor.size)["longest_edge"]) == ([0], 2, 96)
    assert family.describe(model.config) == ["a resnet backbone", "17 queries"]
    with pytest.raises(ValueError, match=r"the model would have \d+ numbers, expected at most"):
        family.build({**KEYS, "hidden_dim": 8192, "dim_feedforward": 32_768, "decoder_layers": 99}, CATEGORIES)


def test_settings_of_its_processor_are_looked_at_before_one_is_made():
    family = FAMILIES["unisegment"]
    family.check_settings({"size": 64}, {"do_pad": True, "size": {"shortest_edge": 10**9}})
    with pytest.raises(ValueError, match=r"'do_rezise' is not a setting .* of Mask2Former\..* 'do_resize'"):
        family.check_settings({"do_rezise": False})
    with pytest.raises(ValueError, match="'do_pad' is not a setting"):  # files have it, and it has no effect
        family.check_settings({"do_pad": True})
    with pytest.raises(ValueError, match=r"size_divisor must be a multiple of 4, got 6"):
        family.check_settings({"size": 64}, {"size_divisor": 6})


def test_what_transformers_cannot_hold_is_said():
    family = FAMILIES["unisegment"]
    assert family.stock_layout(family.config(**KEYS)).model_type == "mask2former"
    with pytest.raises(ValueError, match="has pixel_decoder='ms_deform_attn' only"):
        family.stock_layout(family.config(**KEYS, pixel_decoder="fpn"))
    with pytest.raises(ValueError, match="transformers has no Mask2Former"):
        replace(family, stock=()).stock_layout(family.config(**KEYS))
