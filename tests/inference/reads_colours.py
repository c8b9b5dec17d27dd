# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a model that reads segments off the image, and images and a processor for it."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from unisegment.inference.predictor import Predictor
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.outputs import UniSegmentOutput
from unisegment.structures import Sample, SegmentationTarget

NUM_LABELS = 3
NUM_QUERIES = 5
STUFF = [2]
CATEGORIES = [
    {"id": 11, "name": "disc", "isthing": 1}, {"id": 20, "name": "ring", "isthing": 1},
    {"id": 30, "name": "sky", "isthing": 0},
]  # fmt: skip
SIZES = [(36, 52), (36, 52), (68, 44), (36, 52), (36, 52), (36, 52)]
"""Padded to multiples of 32, the third one differs."""


class ReadsColours(nn.Module):
    """Red says which query sees a pixel, green its label."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(
            num_labels=NUM_LABELS,
            num_queries=NUM_QUERIES,
            id2label={label: entry["name"] for label, entry in enumerate(CATEGORIES)},
            categories=CATEGORIES,
        )
        self.batches = []

    @property
    def device(self):
        return self.weight.device

    def forward(self, pixel_values, pixel_mask):
        self.batches.append(len(pixel_values))
        self.dtype = (pixel_values @ pixel_values.mT).dtype
        self.was_training = self.training
        coarse = pixel_values[:, :2, 2::4, 2::4]
        query, label = (coarse * 255 / 40).round().long().unbind(1)
        masks = torch.stack([query == number + 1 for number in range(NUM_QUERIES)], dim=1)
        labels = torch.stack([(label * mask).amax((1, 2)) for mask in masks.unbind(1)], dim=1)
        # Label 1 is taken for label 0: an error that every score sees.
        labels = torch.where(masks.any((2, 3)), labels, NUM_LABELS + 1) - 1
        labels[labels == 1] = 0
        return UniSegmentOutput(
            class_queries_logits=10 * nn.functional.one_hot(labels, NUM_LABELS + 1).float(),
            masks_queries_logits=10 * masks.float() - 5,
            image_sizes=torch.stack([pixel_mask.sum(1).amax(1), pixel_mask.sum(2).amax(1)], dim=1),
        )


def sample(index):
    """Left and right half, and one object in the middle; their labels change from image to image."""
    height, width = SIZES[index]
    ids = np.ones((height, width), np.int32)
    ids[:, width // 2 :] = 2
    ids[8:24, 12:32] = 3
    labels = np.array([2, index % 3, (index + 1) % 2])
    image = np.stack([ids * 40, (labels + 1)[ids - 1] * 40, ids * 0], axis=-1).astype(np.uint8)
    target = SegmentationTarget(
        labels=torch.from_numpy(labels), id_map=torch.from_numpy(ids), segment_ids=torch.arange(1, 4)
    )
    return Sample(image, index, f"folder/{index}.png", target=target)


SAMPLES = [sample(index) for index in range(len(SIZES))]


class Torn(list):
    """Images of which the second and the last cannot be read."""

    def __getitem__(self, index):
        if index in (1, len(self) - 1):
            raise FileNotFoundError(f"{index}.png is gone")
        return super().__getitem__(index)


def make_processor(**keywords):
    settings = {
        "size": {"shortest_edge": 8, "longest_edge": 4000}, "do_resize": False, "image_mean": [0.0] * 3,
        "image_std": [1.0] * 3, "stuff_label_ids": STUFF, "num_labels": NUM_LABELS,
    }  # fmt: skip
    return UniSegmentImageProcessor(**(settings | keywords))


def make_predictor(**keywords):
    return Predictor(ReadsColours(), make_processor(), **keywords)


class OnlySemantic(UniSegmentImageProcessor):
    """Reads no other results, and lets the model see each image twice."""

    def windows(self, size):
        return 2 * super().windows(size)

    def why_not(self, task):
        return None if task == "semantic" else "Only labels of pixels here."

    def post_process_semantic_segmentation(self, outputs, target_sizes=None):
        halves = (outputs.class_queries_logits, outputs.masks_queries_logits, outputs.image_sizes)
        names = ("class_queries_logits", "masks_queries_logits", "image_sizes")
        assert all(torch.equal(part[::2], part[1::2]) for part in halves)
        first = UniSegmentOutput(**{name: part[::2] for name, part in zip(names, halves, strict=True)})
        return super().post_process_semantic_segmentation(first, target_sizes)


def only_semantic():
    return OnlySemantic(**make_processor(num_labels=None).settings())
