# SPDX-License-Identifier: Apache-2.0
from transformers import EomtConfig, EomtDinov3Config

from tests.models.eomt.original_files import original_state_dict, stock_model
from unisegment.models.base import FAMILIES
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.family import FAMILY


def test_the_family_says_what_its_models_are():
    config = UniSegmentEomtConfig(num_queries=100, num_hidden_layers=12, hidden_size=384, num_attention_heads=6)
    parts = ["a DINOv2 vision transformer of 12 layers and 384 channels", "100 queries"]
    assert FAMILY.describe(config) == parts
    config.position_encoding = "rope"
    assert FAMILY.describe(config)[0].startswith("a DINOv3 vision transformer")


def test_checkpoints_of_three_code_bases_are_its_own():
    for model_type in (UniSegmentEomtConfig.model_type, EomtConfig.model_type, EomtDinov3Config.model_type):
        assert FAMILIES.reading(model_type) is FAMILY
    assert FAMILIES.owning(original_state_dict(stock_model("dinov2"))) is FAMILY


def test_each_config_has_the_layout_that_can_hold_it():
    assert FAMILY.stock_layout(UniSegmentEomtConfig()).model_type == "eomt"
    assert FAMILY.stock_layout(UniSegmentEomtConfig(position_encoding="rope")).model_type == "eomt_dinov3"
