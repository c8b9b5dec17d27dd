# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from unisegment.metrics import MeanAveragePrecision, MeanIoU, PanopticQuality
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.outputs import UniSegmentOutput
from unisegment.structures import Sample, SegmentationTarget
from unisegment.training import evaluation
from unisegment.training.evaluation import draw_predictions, evaluate

NUM_LABELS = 3
NUM_QUERIES = 5
STUFF = [2]
SIZES = [(36, 52), (36, 52), (68, 44), (36, 52), (36, 52), (36, 52)]
"""Padded to multiples of 32, the third one differs."""


class ReadsColours(nn.Module):
    """A stand-in that reads the segments off the image: red says which query sees a pixel, green its label."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(num_labels=NUM_LABELS, id2label={0: "disc", 1: "ring", 2: "sky"})
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
    return Sample(image, target, image_id=index, file_name=f"folder/{index}.png")


SAMPLES = [sample(index) for index in range(len(SIZES))]


@pytest.fixture
def processor():
    return UniSegmentImageProcessor(
        size={"shortest_edge": 8, "longest_edge": 4000},
        do_resize=False,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        stuff_label_ids=STUFF,
        num_labels=NUM_LABELS,
    )


def test_scores_are_those_of_the_metrics_fed_by_hand(processor):
    model = ReadsColours()
    scores = evaluate(model, processor, SAMPLES)
    metrics = (PanopticQuality(NUM_LABELS, STUFF), MeanAveragePrecision([0, 1]), MeanIoU(NUM_LABELS))
    for item in SAMPLES:
        inputs = processor(images=[item.image], return_tensors="pt")
        outputs = model(inputs["pixel_values"], inputs["pixel_mask"])
        sizes = [item.target.size]
        predictions = (
            processor.post_process_panoptic_segmentation(outputs, threshold=0.8, target_sizes=sizes),
            processor.post_process_instance_segmentation(outputs, threshold=0.0, target_sizes=sizes),
            processor.post_process_semantic_segmentation(outputs, target_sizes=sizes),
        )
        for metric, prediction in zip(metrics, predictions, strict=True):
            metric.update(prediction, [item.target])
    panoptic, instance, semantic = (metric.compute() for metric in metrics)
    assert scores == {
        **{name: panoptic["all"][name] for name in ("pq", "sq", "rq")},
        "pq_things": panoptic["things"]["pq"],
        "pq_stuff": panoptic["stuff"]["pq"],
        "mask_ap": instance["ap"],
        "miou": semantic["miou"],
        "images": 6,
    }
    assert all(0.1 < score < 0.99 for score in list(scores.values())[:-1])


def test_only_neighbours_of_equal_size_share_a_batch_and_no_score_changes(processor):
    model = ReadsColours()
    alone = evaluate(model, processor, SAMPLES, batch_size=1)
    assert model.batches == [1] * 6
    model.batches.clear()
    assert evaluate(model, processor, SAMPLES, batch_size=2) == alone
    assert model.batches == [2, 1, 2, 1]


def test_workers_do_not_change_scores(processor):
    assert evaluate(ReadsColours(), processor, SAMPLES, workers=1) == evaluate(ReadsColours(), processor, SAMPLES)


@pytest.mark.parametrize("num_processes", [2, 7])
def test_processes_share_the_images_and_nothing_is_counted_twice(processor, monkeypatch, num_processes):
    alone = evaluate(ReadsColours(), processor, SAMPLES, batch_size=2)
    shards, seen = [], 0
    monkeypatch.setattr(evaluation, "gather_object", lambda own: shards.extend(own) or own)
    for index in range(num_processes):
        state = SimpleNamespace(num_processes=num_processes, process_index=index, is_main_process=index == 0)
        monkeypatch.setattr(evaluation, "PartialState", lambda state=state: state)
        model = ReadsColours()
        evaluate(model, processor, SAMPLES, batch_size=2)
        seen += sum(model.batches)
    assert seen == len(SAMPLES)
    monkeypatch.setattr(evaluation, "gather_object", lambda own: shards)
    assert evaluate(ReadsColours(), processor, [], batch_size=2) == pytest.approx(alone, rel=1e-12)


def test_the_model_runs_in_float32_and_goes_back_to_training(processor):
    model = ReadsColours().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        evaluate(model, processor, SAMPLES[:1])
    assert model.dtype == torch.float32
    assert not model.was_training
    assert model.training


def test_the_panoptic_threshold_is_used(processor):
    assert math.isclose(evaluate(ReadsColours(), processor, SAMPLES, panoptic_threshold=1.0)["pq"], 0)


def test_scores_of_nothing_are_none(processor):
    item = SAMPLES[0]
    nothing = SegmentationTarget(labels=torch.zeros(0), masks=torch.zeros(0, *item.target.size, dtype=torch.bool))
    void = Sample(np.zeros_like(item.image), nothing, image_id=0, file_name="void.png")
    scores = evaluate(ReadsColours(), processor, [void])
    assert scores.pop("images") == 1
    assert set(scores.values()) == {None}


def test_stuff_is_not_drawn_as_an_instance(processor, monkeypatch):
    drawn = []

    def keep(image, predictions, id2label):
        drawn.append(predictions)
        return Image.fromarray(image)

    monkeypatch.setattr(evaluation, "draw_sheet", keep)
    draw_predictions(ReadsColours(), processor, SAMPLES, num_pictures=1)
    labels = {kind: {info["label_id"] for info in drawn[0][kind].segments_info} for kind in ("instance", "panoptic")}
    assert labels == {"instance": {0}, "panoptic": {0, 2}}


def test_pictures_are_spread_over_the_images(processor):
    pictures = draw_predictions(ReadsColours(), processor, SAMPLES, num_pictures=3)
    assert list(pictures) == ["00000_0.png", "00002_2.png", "00005_5.png"]
    assert pictures["00000_0.png"].width > 4 * SIZES[0][1]
    assert len(draw_predictions(ReadsColours(), processor, SAMPLES[:2], num_pictures=9)) == 2


def test_an_evaluation_can_be_cancelled(processor):
    model, answers = ReadsColours(), iter([False, True, True])
    with pytest.raises(evaluation.EvaluationCancelledError):
        evaluate(model, processor, SAMPLES, is_cancelled=lambda: next(answers))
    assert model.batches == [1]


def test_where_segments_overlap_only_instances_are_judged(processor):
    item = SAMPLES[0]
    masks = item.target.binary_masks().clone()
    masks[0] |= masks[1]
    overlapping = replace(item, target=SegmentationTarget(labels=item.target.labels, masks=masks))
    assert overlapping.target.has_overlaps()
    scores = evaluate(ReadsColours(), processor, [*SAMPLES[1:3], overlapping])
    assert {name for name, score in scores.items() if score is not None} == {"mask_ap", "images"}


class Torn(list):
    """Images of which the second and the last cannot be read."""

    def __getitem__(self, index):
        if index in (1, len(self) - 1):
            raise FileNotFoundError(f"{index}.png is gone")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_cannot_be_read_are_errors_or_left_out(processor, workers):
    with pytest.raises(FileNotFoundError, match=r"1\.png is gone"):
        evaluate(ReadsColours(), processor, Torn(SAMPLES), workers=workers)
    left_out = []
    scores = evaluate(ReadsColours(), processor, Torn(SAMPLES), workers=workers, on_unreadable=left_out.extend)
    assert left_out == ["1.png is gone", "5.png is gone"]
    rest = [SAMPLES[0], *SAMPLES[2:5]]
    assert scores == evaluate(ReadsColours(), processor, rest)
    assert scores["images"] == 4


def test_pictures_are_drawn_of_images_that_can_be_read(processor):
    with pytest.raises(FileNotFoundError, match="gone"):
        draw_predictions(ReadsColours(), processor, Torn(SAMPLES), num_pictures=3)
    pictures = draw_predictions(ReadsColours(), processor, Torn(SAMPLES), num_pictures=3, on_unreadable=list)
    assert list(pictures) == ["00000_0.png", "00002_2.png"]
