# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from tests.inference.reads_colours import SAMPLES, SIZES, ReadsColours, make_predictor, make_processor
from unisegment.inference.images import load_batches
from unisegment.inference.predictor import Predictor


def test_predictions_have_the_size_of_the_image_and_instances_no_stuff():
    predictor = make_predictor()
    assert (predictor.stuff_label_ids, predictor.thing_label_ids) == ({2}, {0, 1})
    (batch,) = load_batches(SAMPLES, make_processor(), [0, 1], batch_size=2)
    outputs = predictor.forward(batch)
    for task in ("panoptic", "instance", "semantic"):
        found = getattr(predictor, task)(batch, outputs)
        assert [tuple(prediction.segmentation.shape) for prediction in found] == SIZES[:2]
    assert {info["label_id"] for info in predictor.instance(batch, outputs)[0].segments_info} <= {0, 1}
    assert {info["label_id"] for info in predictor.panoptic(batch, outputs)[0].segments_info} == {0, 2}


@pytest.mark.parametrize(("stuff", "task"), [([2], "panoptic"), ([], "instance"), ([0, 1, 2], "semantic")])
def test_labels_say_what_they_are_made_for(stuff, task):
    assert Predictor(ReadsColours(), make_processor(stuff_label_ids=stuff)).task == task


def test_thresholds_are_used():
    (batch,) = load_batches(SAMPLES, make_processor(), [0])
    strict = make_predictor(panoptic_threshold=1.0)
    assert strict.panoptic(batch, strict.forward(batch))[0].segments_info == []
    assert strict.instance(batch, strict.forward(batch), threshold=0.9999)[0].segments_info == []
    few = make_predictor(top_k=2)
    assert len(strict.instance(batch, strict.forward(batch))[0].segments_info) > 1
    assert len(few.instance(batch, few.forward(batch))[0].segments_info) == 1  # and one of stuff
    assert not torch.is_grad_enabled() or not strict.forward(batch).masks_queries_logits.requires_grad
