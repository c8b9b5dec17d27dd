# SPDX-License-Identifier: Apache-2.0
from unisegment import UniSegmentConfig
from unisegment.models.unisegment.family import FAMILY


def test_it_says_what_a_config_makes():
    assert FAMILY.describe(UniSegmentConfig(num_queries=7)) == ["a swin backbone", "7 queries"]


def test_it_knows_files_of_the_original_code_by_their_names():
    decoder = "sem_seg_head.predictor.transformer_cross_attention_layers.0.norm.weight"
    assert FAMILY.original.owns(["backbone.stem.conv1.weight", decoder])
    assert not FAMILY.original.owns(["network.q.weight"])
