# SPDX-License-Identifier: Apache-2.0
"""Every key of a config with values of every wrong kind: a ValueError that names the key, or a config."""

import json

import numpy as np
import pytest
import torch
from transformers import ResNetConfig

from unisegment import UniSegmentConfig
from unisegment.models.config_values import KINDS as SHARED_KINDS

KINDS = {**SHARED_KINDS, **UniSegmentConfig.kinds}
DEEP: list = []
for _ in range(50):
    DEEP = [DEEP]
HOSTILE = [
    None, True, -1, 0, 2**31, 10**400, 1.5, -1e300, float("nan"), float("inf"), "", "text", "x" * 20_000, "\0",
    [], [1], [None], ["text"], {}, {"a": 1}, {"a": {"b": []}}, {1: 2}, DEEP,
]  # fmt: skip
CONFIG = UniSegmentConfig(backbone_config=ResNetConfig(depths=[1, 1, 1, 1]), categories=None).to_dict()


@pytest.mark.parametrize("key", sorted({*KINDS, *CONFIG, "hidden_size", "no_key", "to_dict", "__class__"}))
def test_a_value_of_any_kind_is_taken_or_refused(key):
    said = []
    for value in HOSTILE:
        try:
            UniSegmentConfig.from_dict({**CONFIG, key: value}).to_dict()
        except ValueError as error:  # nothing else
            said.append(str(error))
    assert [text for text in said if len(text) > 700 or "\n" in text] == []


def test_numbers_of_numpy_become_those_of_a_file():
    config = UniSegmentConfig.from_dict(CONFIG)
    config.num_queries, config.use_auxiliary_loss = np.int64(7), np.False_
    assert (type(config.num_queries), config.use_auxiliary_loss) == (int, False)
    assert UniSegmentConfig.from_dict(json.loads(config.to_json_string())).num_queries == 7


def test_parts_of_a_model_may_have_dtypes_of_their_own():
    config = UniSegmentConfig.from_dict({**CONFIG, "dtype": None}, dtype={"": torch.bfloat16})
    assert json.loads(config.to_json_string())["dtype"] == {"": "bfloat16"}
