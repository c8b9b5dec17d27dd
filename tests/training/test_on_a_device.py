# SPDX-License-Identifier: Apache-2.0
"""What training and inference do on an accelerator, seen on a device that is none (see tests/pretended_device.py)."""

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import send_to_device

from tests.pretended_device import DEVICE, HOST, Record
from tests.training.small_steps import BACKBONES, PREDICTIONS, SIZES, batch, network, samples, take_steps, trained
from unisegment import UniSegmentImageProcessor
from unisegment.inference.augmentation import AugmentedPredictor
from unisegment.inference.images import load_batches
from unisegment.models.unisegment.modeling_unisegment import find_image_sizes


def steps(model, device, monkeypatch, count=1):
    """Take steps with a model that is on the device, and return what they report."""
    accelerator = Accelerator(cpu=True)
    for state in (PartialState, AcceleratorState):
        monkeypatch.setitem(state._shared_state, "device", device)
    return take_steps(accelerator, *trained(model), count)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_training_makes_no_float64_tensor_on_the_device_and_equals_the_cpu(backbone, monkeypatch):
    model = network(backbone)
    expected = steps(copy.deepcopy(model), HOST, monkeypatch, count=2)
    with Record() as record:
        assert steps(model.to(DEVICE), DEVICE, monkeypatch, count=2) == expected
    assert record.float64 == {}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_inference_makes_no_float64_tensor_on_the_device(backbone):
    processor = UniSegmentImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, stuff_label_ids=[1])
    model = network(backbone)
    with torch.no_grad():
        model.transformer_decoder.predictor.class_head.bias[-1] = -9  # every query finds something
    prepared = list(load_batches(samples(), processor, [0, 1]))
    with Record() as record:
        predictor = AugmentedPredictor(model.to(DEVICE), processor, scales=[0.5, 1.0])
        for (item,) in prepared:
            outputs = predictor.forward([item])
            any_score = {"threshold": 0.0, "mask_threshold": 0.0, "overlap_mask_area_threshold": 0.0}
            found = [
                processor.post_process_panoptic_segmentation(outputs, **any_score),
                processor.post_process_instance_segmentation(outputs, **any_score),
                processor.post_process_semantic_segmentation(outputs, return_segmentation_scores=True),
                predictor.semantic([item], outputs),
            ]
            assert all(result[0].segments_info for result in found)
    assert record.float64 == {}


def test_a_training_step_waits_for_the_device_twice(monkeypatch):
    """With one micro-batch in one process; every step is logged."""
    model = network()
    with Record() as record:
        model = model.to(DEVICE)
        record.synchronisations.clear()
        steps(model, DEVICE, monkeypatch)
    places = [place.split(":")[0] for place in record.synchronisations.elements()]
    # What matching costs, and what the loss and its terms are.
    assert sorted(places) == ["matcher.py", "step.py"], record.synchronisations


def test_targets_on_the_device_are_waited_for_once():
    model, inputs = network(), batch()
    with Record() as record:
        model, pixel_values = model.to(DEVICE), inputs["pixel_values"].to(DEVICE)
        targets = [target.to(DEVICE) for target in inputs["mask_labels"]]
        record.synchronisations.clear()
        model(pixel_values, mask_labels=targets)
    places = [place.split(":")[0] for place in record.synchronisations.elements()]
    assert sorted(places) == ["matcher.py", "transfers.py"], record.synchronisations


def without_scores(prediction):
    return [{key: value for key, value in info.items() if key != "score"} for info in prediction.segments_info]


@pytest.mark.parametrize(("task", "rules", "waits"), PREDICTIONS)
def test_a_batch_of_predictions_waits_for_the_device_twice(task, rules, waits):
    """However many images it has: to see what was found, and for the masks of that. Results equal the CPU's."""
    model, processor, inputs = network().eval(), UniSegmentImageProcessor(stuff_label_ids=[1]), batch()
    with torch.no_grad():
        model.transformer_decoder.predictor.class_head.bias[-1] = -9  # every query finds something
    images = {name: inputs[name] for name in ("pixel_values", "pixel_mask")}
    sizes = [(height - 3, width + 5) for height, width in SIZES]
    with torch.no_grad():
        wanted = getattr(processor, task)(model(**images), target_sizes=sizes, **rules)
        with Record() as record:
            model.to(DEVICE)
            record.synchronisations.clear()
            outputs = model(**send_to_device(images, DEVICE, non_blocking=True))
            found = getattr(processor, task)(outputs, target_sizes=sizes, **rules)
            assert sum(record.synchronisations.values()) == waits, record.synchronisations
            for prediction, expected in zip(found, wanted, strict=True):
                # The CPU has a way of its own, which rounds differently.
                assert without_scores(prediction) == without_scores(expected) != []
                for info, other in zip(prediction.segments_info, expected.segments_info, strict=True):
                    assert info["score"] == pytest.approx(other["score"], abs=1e-6)
                assert torch.equal(prediction.segmentation.cpu(), expected.segmentation)


def test_accelerate_sends_a_batch_and_its_targets_without_waiting():
    inputs = batch()
    with Record() as record:
        sent = send_to_device(inputs, DEVICE, non_blocking=True)
        assert record.synchronisations == {}
        for target, own in zip(sent["mask_labels"], inputs["mask_labels"], strict=True):
            assert {tensor.device for tensor in (target.labels, target.id_map, target.segment_ids)} == {DEVICE}
            assert torch.equal(target.binary_masks().cpu(), own.binary_masks())


def test_a_forward_without_targets_waits_for_nothing():
    model, inputs = network(), batch()
    with Record() as record, torch.no_grad():
        model.to(DEVICE)
        pixel_values, pixel_mask = inputs["pixel_values"].to(DEVICE), inputs["pixel_mask"].to(DEVICE)
        record.synchronisations.clear()
        sizes = model(pixel_values, pixel_mask=pixel_mask).image_sizes, find_image_sizes(pixel_values, None)
    assert record.synchronisations == {}
    assert [size.cpu().tolist() for size in sizes] == [[list(size) for size in SIZES], [[64, 96]] * 2]
    assert {size.dtype for size in sizes} == {torch.int64}
