# SPDX-License-Identifier: Apache-2.0
"""supervision, which draws and tracks detections, reads our results as it reads those of transformers."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Mask2FormerImageProcessorPil

from unisegment import UniSegmentImageProcessor

SIZE, NAMES = (384, 384), {0: "cat", 1: "dog", 2: "sky"}


@pytest.fixture(scope="module")
def supervision():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "OpenCV .* is not installed", UserWarning)
        return pytest.importorskip("supervision")


@pytest.fixture(scope="module")
def outputs():
    """Sky above, a cat below that reaches into it, and a dog; on a canvas that transformers does not resize."""
    masks = torch.zeros(3, 96, 96)
    masks[0, :50], masks[1, 45:, :48], masks[2, 50:, 48:80] = 1, 1, 1
    labels = torch.nn.functional.one_hot(torch.tensor([2, 0, 1]), 4)
    return SimpleNamespace(class_queries_logits=15.0 * labels[None], masks_queries_logits=20 * masks[None] - 10)


def detected(supervision, processor, task, outputs, **keywords):
    method = getattr(processor, f"post_process_{task}_segmentation")
    (result,) = method(outputs, target_sizes=[SIZE], **keywords)
    return supervision.Detections.from_transformers(result, id2label=NAMES)


@pytest.mark.parametrize(
    ("task", "keywords"),
    [
        ("semantic", {}),
        ("semantic", {"return_segmentation_scores": True}),
        ("instance", {"return_binary_maps": True}),
        ("instance", {"return_binary_maps": True, "threshold": 1.1}),
        ("instance", {"threshold": 1.1}),
        ("panoptic", {"label_ids_to_fuse": {2}, "threshold": 1.1}),
    ],
)
def test_it_finds_what_it_finds_in_results_of_transformers(supervision, outputs, task, keywords):
    ours, theirs = (
        detected(supervision, processor, task, outputs, **keywords)
        for processor in (UniSegmentImageProcessor(id2label=NAMES), Mask2FormerImageProcessorPil())
    )
    assert len(ours) == (0 if "threshold" in keywords else 3)
    np.testing.assert_array_equal(ours.class_id, theirs.class_id)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    np.testing.assert_array_equal(ours.xyxy, theirs.xyxy)
    np.testing.assert_array_equal(ours.data["class_name"], theirs.data["class_name"])


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_it_reads_maps_of_segments(supervision, outputs, task):
    """Here transformers' own maps are others: objects in the order of queries, the last one on top; void is filled."""
    processor = UniSegmentImageProcessor(stuff_label_ids=[2], id2label=NAMES)
    found = detected(supervision, processor, task, outputs)
    (result,) = getattr(processor, f"post_process_{task}_segmentation")(outputs, target_sizes=[SIZE])
    assert found.data["class_name"].tolist() == [info["label"] for info in result.segments_info]
    for mask, info in zip(found.mask, result.segments_info, strict=True):
        np.testing.assert_array_equal(mask, result.segmentation == info["id"])


def test_it_draws_them(supervision, outputs):
    found = detected(supervision, UniSegmentImageProcessor(), "semantic", outputs)
    picture = supervision.MaskAnnotator().annotate(np.zeros((*SIZE, 3), np.uint8), found)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) >= 3
