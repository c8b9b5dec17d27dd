# SPDX-License-Identifier: Apache-2.0
"""An image, and the same three segments on it as every kind of prediction."""

import numpy as np
import torch

from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget, SemanticPrediction
from unisegment.visualization import label_colors

HEIGHT, WIDTH = 61, 97


def image_of(height=HEIGHT, width=WIDTH):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def id_map_of(height=HEIGHT, width=WIDTH):
    """Return 1 in the upper part, 2 and 3 side by side in the lower part, and void in the last column."""
    id_map = torch.ones(height, width, dtype=torch.int32)
    id_map[height // 2 :, : width // 2] = 2
    id_map[height // 2 :, width // 2 :] = 3
    id_map[:, -1] = 0
    return id_map


def infos_of(*labels):
    return [{"id": i, "label_id": label, "score": 0.5 + i / 10} for i, label in enumerate(labels, 1)]


def predictions_of_all_kinds():
    """Return the same three segments, of the labels 4, 0 and 0, as every kind of prediction."""
    id_map = id_map_of()
    masks = torch.stack([id_map == i for i in (1, 2, 3)])
    labels = torch.tensor([0, 4, 0, 0])[id_map]
    return {
        "panoptic": PanopticPrediction(id_map, infos_of(4, 0, 0)),
        "instance": InstancePrediction(id_map, infos_of(4, 0, 0), masks),
        "id map": SegmentationTarget(labels=[4, 0, 0], id_map=id_map, segment_ids=[1, 2, 3]),
        "masks": SegmentationTarget(labels=[4, 0, 0], masks=masks),
        "semantic": SemanticPrediction(labels, [{"id": i, "label_id": i, "score": 0.9} for i in (4, 0)]),
    }


BLACK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
COLORS = label_colors({0: "0", 1: "1", 4: "4"})
NOTHING = PanopticPrediction(torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), [])


def far_from_names_and_borders(picture):
    """Return the colours in a corner of each segment of `id_map_of`, where no name is written, and all of void."""
    pixels = np.asarray(picture)
    factor = pixels.shape[0] // HEIGHT
    places = [(2, 2), (HEIGHT // 2 + 3, 2), (HEIGHT // 2 + 3, WIDTH // 2 + 3)]
    colors = [pixels[int((row + 0.5) * factor), int((column + 0.5) * factor)] for row, column in places]
    return [*colors, pixels[:, -factor // 2 :]]


def target_of(ids, labels, crowds=()):
    numbers = list(range(1, len(labels) + 1))
    return SegmentationTarget(
        labels=labels, id_map=ids, segment_ids=numbers, is_crowd=torch.tensor([n in crowds for n in numbers])
    )


def panoptic_of(ids, labels):
    infos = [{"id": number, "label_id": label, "score": 0.9} for number, label in enumerate(labels, 1)]
    return PanopticPrediction(ids, infos)


def columns(*ends):
    """Return a map of stripes: 1 up to the first column, then 2, and so on; 0 behind the last."""
    ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    for number, (start, end) in enumerate(zip((0, *ends), ends, strict=False), 1):
        ids[:, start:end] = number
    return ids
