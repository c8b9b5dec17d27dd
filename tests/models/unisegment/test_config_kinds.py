# SPDX-License-Identifier: Apache-2.0
from dataclasses import fields

from transformers import Mask2FormerConfig

from unisegment import UniSegmentConfig
from unisegment.models.config_values import KINDS as SHARED_KINDS
from unisegment.models.unisegment.config_kinds import KINDS


def test_there_is_a_kind_for_every_field():
    known = {*SHARED_KINDS, *KINDS}
    assert {item.name for item in fields(UniSegmentConfig)} <= known
    assert {item.name for item in fields(Mask2FormerConfig)} <= known
