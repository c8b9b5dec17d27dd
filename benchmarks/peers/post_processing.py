# SPDX-License-Identifier: Apache-2.0
"""Logits in, results of each task by our post-processing and by transformers' out."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Mask2FormerImageProcessorPil

from unisegment import UniSegmentImageProcessor

SIZE, NUM_QUERIES, NUM_LABELS = (1024, 2048), 100, 133
_SHARPNESS = 0.5
"""Logits rise by so much for each pixel of distance from a border."""
_AGREEMENT = 0.9


def make_outputs(size: tuple[int, int] = SIZE, num_queries: int = NUM_QUERIES) -> SimpleNamespace:
    """Return what a sure network says of an image: each query has the pixels that are nearest to its own point.

    Args:
        size: Height and width of the image; masks (1 q h/4 w/4) have stride 4.
        num_queries: Half of them are things (labels from 0), half stuff (labels from the other end).
    """
    generator = torch.Generator().manual_seed(0)
    rows, columns = (torch.arange(0, length, 4).float() for length in size)
    points = torch.rand(num_queries, 2, generator=generator) * torch.tensor(size)
    distances = torch.hypot(rows[:, None] - points[:, :1, None], columns - points[:, 1:, None])
    nearest, owner = distances.min(0)
    others = nearest.repeat(num_queries, 1, 1)
    second = distances.scatter(0, owner[None], torch.inf).amin(0)
    others.scatter_(0, owner[None], second[None])
    labels = torch.arange(num_queries) % (NUM_LABELS // 2)
    labels = torch.where(torch.arange(num_queries) % 2 == 0, labels, NUM_LABELS - 1 - labels)
    sure = 8 + torch.rand(num_queries, 1, generator=generator)  # no two are as sure
    return SimpleNamespace(
        class_queries_logits=(sure * F.one_hot(labels, NUM_LABELS + 1))[None],
        masks_queries_logits=others.sub_(distances).mul_(_SHARPNESS)[None],
    )


def make_calls(outputs: Any, size: tuple[int, int] = SIZE) -> dict[str, dict[str, Callable[[], Any]]]:
    """Return what makes the result of an image, by task and by whose it is; see `make_outputs`."""
    stuff, sizes = list(range(NUM_LABELS // 2, NUM_LABELS)), [size]
    ours, theirs = UniSegmentImageProcessor(stuff_label_ids=stuff), Mask2FormerImageProcessorPil()
    return {
        "panoptic": {
            "transformers": lambda: theirs.post_process_panoptic_segmentation(
                outputs, target_sizes=sizes, label_ids_to_fuse=set(stuff)
            )[0],
            "unisegment": lambda: ours.post_process_panoptic_segmentation(outputs, target_sizes=sizes)[0],
        },
        "instance": {
            "transformers": lambda: theirs.post_process_instance_segmentation(
                outputs, target_sizes=sizes, return_binary_maps=True
            )[0],
            "unisegment": lambda: ours.post_process_instance_segmentation(outputs, target_sizes=sizes)[0],
        },
        "semantic": {
            "transformers": lambda: theirs.post_process_semantic_segmentation(outputs, target_sizes=sizes)[0],
            "unisegment": lambda: ours.post_process_semantic_segmentation(outputs, target_sizes=sizes)[0],
        },
    }


def compare(task: str, ours: Any, theirs: Any) -> dict[str, Any]:
    """Return the share of pixels of the same label, of instances the mean IoU; with an `error` where it is too small.

    transformers makes masks of 384x384 pixels first, so borders differ.
    """
    if task == "instance":
        what = "mean IoU of masks"
        agreement = _mean_iou(ours.masks, theirs["segmentation"] > 0.5)
    else:
        what = "equal pixels"
        maps = [_labels(one) if task == "panoptic" else torch.as_tensor(one) for one in (ours, theirs)]
        agreement = (maps[0] == maps[1]).float().mean().item()
    found = {what: round(agreement, 4)}
    return found if agreement >= _AGREEMENT else found | {"error": f"{what}: {agreement:.2%}"}


def _labels(result: Any) -> Tensor:
    segmentation = torch.as_tensor(result["segmentation"]).long()
    of = {info["id"]: info["label_id"] for info in result["segments_info"]}
    table = torch.tensor([of.get(number, -1) for number in range(int(segmentation.max()) + 1)])
    return torch.where(segmentation < 0, -1, table[segmentation.clamp(min=0)])


def _mean_iou(ours: Tensor, theirs: Tensor) -> float:
    """Return how well each of our masks is met by one of theirs, in the mean."""
    one, other = (masks.flatten(1).float() for masks in (ours, theirs))
    both = one @ other.T
    ious: Tensor = both / (one.sum(1)[:, None] + other.sum(1) - both)
    return ious.max(1).values.mean().item()
