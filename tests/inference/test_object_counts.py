# SPDX-License-Identifier: Apache-2.0
"""All of many objects are found where that is asked for, and what is cut off is said."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.inference.reads_colours import SAMPLES, STUFF, make_processor
from unisegment.inference import object_counts
from unisegment.inference.evaluation import evaluate
from unisegment.inference.images import load_batches
from unisegment.inference.object_counts import MostObjects
from unisegment.inference.predictor import Predictor
from unisegment.models.unisegment.outputs import UniSegmentOutput
from unisegment.structures import NamedImage, Sample, SegmentationTarget

ROWS, COLUMNS = 11, 13
MANY = ROWS * COLUMNS
NAME = "many.png"


class SeesBlocks(nn.Module):
    """A query for each block of 8x8 pixels, all of one label."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(num_labels=1, num_queries=MANY, id2label={0: "cell"})

    @property
    def device(self):
        return self.weight.device

    def forward(self, pixel_values, pixel_mask):
        height, width = pixel_values.shape[2] // 4, pixel_values.shape[3] // 4
        block = torch.arange(height)[:, None] // 2 * COLUMNS + torch.arange(width) // 2
        masks = (block == torch.arange(MANY)[:, None, None]) & (torch.arange(width) < 2 * COLUMNS)
        return UniSegmentOutput(
            class_queries_logits=torch.tensor([[[10.0, 0.0]]]).expand(1, MANY, 2),
            masks_queries_logits=10 * masks[None].float() - 5,
            image_sizes=torch.tensor([[8 * ROWS, 8 * COLUMNS]]),
        )


def predictor_of(**keywords):
    return Predictor(SeesBlocks(), make_processor(num_labels=1, stuff_label_ids=[]), **keywords)


@pytest.fixture
def many():
    """An image whose objects are what the model sees."""
    image = np.zeros((8 * ROWS, 8 * COLUMNS, 3), np.uint8)
    nothing = SegmentationTarget(labels=[], masks=torch.zeros(0, *image.shape[:2]))
    predictor = predictor_of(top_k=MANY)
    (batch,) = load_batches([Sample(image, 1, NAME, target=nothing)], predictor.processor, [0])
    (found,) = predictor.instance(batch, predictor.forward(batch))
    assert len(found.masks) == MANY
    target = SegmentationTarget(labels=torch.zeros(MANY), masks=found.masks)
    return [Sample(image, 1, NAME, target=target)]


def test_perfect_predictions_of_many_objects_are_evaluated_so(many, caplog):
    object_counts._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert evaluate(predictor_of(top_k=MANY), many, tasks=["instance"])["instance"]["ap"] == 1
        assert caplog.records == []
        for _ in range(2):
            # The first 100 are the first 0.699 of the recall.
            cut = evaluate(predictor_of(), many, tasks=["instance"])["instance"]
            assert cut["ap"] == pytest.approx(70 / 101)
    (record,) = caplog.records
    assert record.getMessage() == (
        "many.png has 143 objects, but predictions have the 100 best of an image (--top-k; evaluation.top_k in a "
        "recipe)."
    )


def test_too_few_queries_are_said(many, caplog):
    object_counts._warn_once.cache_clear()
    predictor = predictor_of(top_k=120)
    predictor.model.config.num_queries = 120
    with caplog.at_level(logging.WARNING):
        MostObjects(143, NAME).note(predictor)
        MostObjects(120, NAME).note(predictor)
    (record,) = caplog.records
    assert record.getMessage().endswith("in a recipe), and 120 queries to find them.")


def test_the_most_objects_are_those_of_one_image_without_stuff_and_crowds():
    things = {0, 1, 2} - set(STUFF)
    (batch,) = load_batches(SAMPLES[:2], make_processor(), [0, 1], batch_size=2)
    most = MostObjects().joined(batch, things)
    assert most == MostObjects(2, "folder/1.png")
    crowd = SegmentationTarget(labels=[0, 0, 1, 0], masks=torch.ones(4, 3, 5), is_crowd=[False, True, False, False])
    pixels = np.zeros((3, 5, 3), np.uint8)
    (batch,) = load_batches([Sample(pixels, 7, "crowd.png", target=crowd)], make_processor(), [0])
    most = most.joined(batch, things)
    assert most == MostObjects(3, "crowd.png")
    assert MostObjects().joined([], things) == MostObjects()
    (batch,) = load_batches([NamedImage(pixels, 7, "plain.png")], make_processor())
    assert MostObjects().joined(batch, things) == MostObjects()
