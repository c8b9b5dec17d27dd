# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.reads_colours import NUM_LABELS, SAMPLES, SIZES, STUFF, ReadsColours, Torn, make_processor
from unisegment.inference import pictures
from unisegment.metrics import MeanAveragePrecision, MeanIoU, PanopticQuality
from unisegment.structures import Sample, SegmentationTarget
from unisegment.training import evaluation
from unisegment.training.evaluation import draw_predictions, evaluate


@pytest.fixture
def processor():
    return make_processor()


def test_scores_are_those_of_the_metrics_fed_by_hand(processor):
    model = ReadsColours()
    scores = evaluate(model, processor, SAMPLES)
    metrics = (PanopticQuality(NUM_LABELS, STUFF), MeanAveragePrecision([0, 1]), MeanIoU(NUM_LABELS))
    for item in SAMPLES:
        inputs = processor(images=[item.image], return_tensors="pt")
        outputs = model(inputs["pixel_values"], pixel_mask=inputs["pixel_mask"])
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


def test_workers_do_not_change_scores(processor):
    assert evaluate(ReadsColours(), processor, SAMPLES, workers=1) == evaluate(ReadsColours(), processor, SAMPLES)


def test_the_panoptic_threshold_is_used(processor):
    assert math.isclose(evaluate(ReadsColours(), processor, SAMPLES, panoptic_threshold=1.0)["pq"], 0)


def test_the_best_objects_are_counted(processor):
    # The best query of each image sees stuff, which counts among the best.
    assert evaluate(ReadsColours(), processor, SAMPLES, top_k=1)["mask_ap"] == 0
    assert evaluate(ReadsColours(), processor, SAMPLES, top_k=2)["mask_ap"] > 0


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

    monkeypatch.setattr(pictures, "draw_sheet", keep)
    draw_predictions(ReadsColours(), processor, SAMPLES, num_pictures=1)
    labels = {kind: {info["label_id"] for info in drawn[0][kind].segments_info} for kind in ("instance", "panoptic")}
    assert labels == {"instance": {0}, "panoptic": {0, 2}}


def test_pictures_are_spread_over_the_images(processor):
    found = draw_predictions(ReadsColours(), processor, SAMPLES, num_pictures=3)
    assert list(found) == ["00000_0.png", "00002_2.png", "00005_5.png"]
    assert found["00000_0.png"].width > 4 * SIZES[0][1]
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
    found = draw_predictions(ReadsColours(), processor, Torn(SAMPLES), num_pictures=3, on_unreadable=list)
    assert list(found) == ["00000_0.png", "00002_2.png"]
