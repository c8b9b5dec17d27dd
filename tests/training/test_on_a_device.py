# SPDX-License-Identifier: Apache-2.0
"""What training and inference do on an accelerator, seen on a device that is none (see tests/pretended_device.py)."""

import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import send_to_device
from transformers import Dinov2Config, ResNetConfig, SwinConfig

from tests.backbones.small_configs import RESNET, STAGES, SWIN
from tests.pretended_device import DEVICE, HOST, Record
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.data.collate import Collate
from unisegment.inference.augmentation import AugmentedPredictor
from unisegment.inference.images import load_batches
from unisegment.models.unisegment.modeling_unisegment import find_image_sizes
from unisegment.runs.processes import any_process
from unisegment.structures import Sample, SegmentationTarget
from unisegment.training.batches import MicroBatch
from unisegment.training.step import LossOnly, step_denominators, take_step

SIZES = [(61, 83), (53, 89)]
SMALL = {
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 3,
    "num_attention_heads": 4, "num_queries": 7, "dim_feedforward": 32, "encoder_feedforward_dim": 32, "num_labels": 2,
    "train_num_points": 50,
}  # fmt: skip
BACKBONES = {
    "resnet": ResNetConfig(**RESNET, out_features=STAGES),
    "swin": SwinConfig(**SWIN, drop_path_rate=0.1, out_features=STAGES),
    "dinov2": Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14),
}


def network(backbone="resnet"):
    torch.manual_seed(3)
    config = UniSegmentConfig(backbone_config=copy.deepcopy(BACKBONES[backbone]), **SMALL)
    return UniSegmentForUniversalSegmentation(config)


def samples():
    generator, found = np.random.default_rng(5), []
    for index, size in enumerate(SIZES):
        id_map = torch.zeros(size, dtype=torch.int32)
        id_map[5:40, 7:31], id_map[45:, 50:] = 7, 9
        target = SegmentationTarget(
            labels=torch.tensor([0, 1]),
            id_map=id_map,
            segment_ids=torch.tensor([7, 9]),
            is_crowd=torch.tensor([False, index == 1]),
        )
        image = generator.integers(256, size=(*size, 3), dtype=np.uint8)
        found.append(Sample(image, target, index, f"{index}.png"))
    return found


def batch():
    return Collate(mean=[0.5] * 3, std=[0.2] * 3, rescale_factor=1 / 255, size_divisor=32)(samples())


def steps(model, device, monkeypatch, count=1):
    """Take steps with a model that is on the device, and return what they report."""
    accelerator = Accelerator(cpu=True)
    for state in (PartialState, AcceleratorState):
        monkeypatch.setitem(state._shared_state, "device", device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = LossOnly(model.train())
    micro_batches = [MicroBatch(batch(), ["0.png", "1.png"])]
    torch.manual_seed(11)
    reports = []
    for _ in range(count):
        denominators = step_denominators(accelerator, micro_batches, model.config.num_queries, 0.1, "global")
        reports.append(take_step(accelerator, losses, optimizer, micro_batches, denominators, 0.01))
        any_process(accelerator, answer=False)
    return reports


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
    assert sum(count for place, count in record.synchronisations.items() if "modeling" in place) == 1


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
