# SPDX-License-Identifier: Apache-2.0
"""A small network, two images with targets, and whole training steps of them on any device."""

import copy

import numpy as np
import torch
from transformers import Dinov2Config, ResNetConfig, SwinConfig

from tests.backbones.small_configs import RESNET, STAGES, SWIN
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.data.collate import Collate
from unisegment.runs.processes import any_process
from unisegment.structures import Sample, SegmentationTarget
from unisegment.training.batches import MicroBatch
from unisegment.training.step import LossOnly, take_step

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

PREDICTIONS = [
    ("post_process_panoptic_segmentation", {"threshold": 0.0, "overlap_mask_area_threshold": 0.0}, 2),
    ("post_process_instance_segmentation", {"threshold": 0.0}, 2),
    # And once for each image, to see what others hide.
    ("post_process_instance_segmentation", {"threshold": 0.0, "overlap_mask_area_threshold": 0.1}, 4),
    ("post_process_semantic_segmentation", {"return_segmentation_scores": True}, 2),
]
"""What a processor can make of two images, by which rules, and how often an accelerator is waited for."""


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
        found.append(Sample(image, index, f"{index}.png", target=target))
    return found


def batch():
    return Collate(mean=[0.5] * 3, std=[0.2] * 3, rescale_factor=1 / 255, size_divisor=32)(samples())


def take_steps(accelerator, losses, optimizer, count=1):
    """Do what the training loop does for each step, and return what the steps report."""
    micro_batches = [MicroBatch(batch(), ["0.png", "1.png"])]
    torch.manual_seed(11)
    reports = []
    for _ in range(count):
        targets = [micro_batch.inputs["mask_labels"] for micro_batch in micro_batches]
        denominators = losses.model.loss_denominators(targets, accelerator.reduce, accelerator.num_processes)
        reports.append(take_step(accelerator, losses, optimizer, micro_batches, denominators, 0.01))
        any_process(accelerator, answer=False)
    return reports


def trained(model):
    """Return what wraps a model in training, and its optimiser."""
    return LossOnly(model.train()), torch.optim.AdamW(model.parameters(), lr=1e-3)
