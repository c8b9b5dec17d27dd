# SPDX-License-Identifier: Apache-2.0
from dataclasses import fields

from transformers.models.eomt.modeling_eomt import EomtForUniversalSegmentationOutput

from unisegment.models.eomt.outputs import NOT_PREDICTIONS, UniSegmentEomtOutput


def test_fields_begin_with_those_of_transformers():
    theirs, ours = (
        [field.name for field in fields(of)] for of in (EomtForUniversalSegmentationOutput, UniSegmentEomtOutput)
    )
    assert ours[: len(theirs)] == theirs
    assert ours[len(theirs) :] == ["auxiliary_logits", "loss_dict", "image_sizes"]


def test_trainer_gathers_predictions_alone():
    names = {field.name for field in fields(UniSegmentEomtOutput)}
    assert names - set(NOT_PREDICTIONS) == {"loss", "class_queries_logits", "masks_queries_logits", "image_sizes"}
