# SPDX-License-Identifier: Apache-2.0
"""An image, and the same three segments on it as every kind of prediction."""

import numpy as np
import torch

from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget, SemanticPrediction

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
