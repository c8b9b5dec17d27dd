# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import torch

from tests.inference.reads_colours import SAMPLES, ReadsColours, make_predictor, make_processor
from unisegment.inference.augmentation import AugmentedPredictor
from unisegment.inference.evaluation import evaluate
from unisegment.inference.images import targets_of
from unisegment.inference.report import SHORT_NAMES, description, format_report, headlines, make_report
from unisegment.metrics import BoundaryIoU, MeanAveragePrecision, MeanIoU, PanopticQuality
from unisegment.ops.tf32 import use_tf32
from unisegment.structures import Sample, SegmentationTarget

NAMES = {0: "disc", 1: "ring", 2: "sky"}


def computed():
    """Return what the metrics compute."""
    predictor = make_predictor()
    metrics = {
        "panoptic": PanopticQuality(3, [2]), "instance": MeanAveragePrecision([0, 1], by_boundary=True),
        "semantic": MeanIoU(3), "boundary": BoundaryIoU(3),
    }  # fmt: skip
    for batch, outputs in predictor.stream(SAMPLES, range(6)):
        for task, metric in metrics.items():
            predictions = getattr(predictor, "semantic" if task == "boundary" else task)(batch, outputs)
            metric.update(predictions, targets_of(batch))
    scores = {task: metric.compute() for task, metric in metrics.items()}
    scores["semantic"]["boundary"] = scores.pop("boundary")
    return {"images": 6, **scores}


def test_a_report_has_all_scores_by_label_and_can_be_written():
    scores = computed()
    report = json.loads(json.dumps(make_report(scores, NAMES), allow_nan=False))
    assert set(report) == {*SHORT_NAMES, "panoptic", "instance", "semantic"}
    assert report["panoptic"]["things"]["pq"] == scores["panoptic"]["things"]["pq"]
    assert report["panoptic"]["per_class"][2] == {"label": 2, "name": "sky", **scores["panoptic"]["per_class"][2]}
    assert report["instance"]["ap_large"] is None
    assert report["instance"]["boundary_ap"] == scores["instance"]["boundary"]["ap"]
    assert [line["name"] for line in report["instance"]["per_class"]] == ["disc", "ring"]
    assert report["semantic"]["boundary_miou"] == scores["semantic"]["boundary"]["miou"]
    assert set(report["semantic"]["per_class"][0]) == {"label", "name", "iou", "boundary_iou"}


def test_the_scores_of_the_whole_have_short_names():
    report = make_report(computed(), NAMES)
    panoptic = report["panoptic"]
    assert {name: report[name] for name in SHORT_NAMES} == {
        **{name: panoptic["all"][name] for name in ("pq", "sq", "rq")},
        "pq_things": panoptic["things"]["pq"],
        "pq_stuff": panoptic["stuff"]["pq"],
        "mask_ap": report["instance"]["ap"],
        "miou": report["semantic"]["miou"],
        "images": 6,
    }
    assert all(0.1 < report[name] < 0.99 for name in SHORT_NAMES[:-1])


def test_scores_of_nothing_are_none():
    item = SAMPLES[0]
    nothing = SegmentationTarget(labels=torch.zeros(0), masks=torch.zeros(0, *item.size, dtype=torch.bool))
    void = Sample(np.zeros_like(item.image), 0, "void.png", target=nothing)
    report = evaluate(make_predictor(), [void])
    assert {name: report[name] for name in SHORT_NAMES} == dict.fromkeys(SHORT_NAMES) | {"images": 1}


def test_a_report_says_what_it_is_of():
    predictor = AugmentedPredictor(ReadsColours(), make_processor(), 0.5, 3, "mine", scales=(0.5, 1.0))
    with use_tf32(True):
        found = description(predictor)
    assert found.pop("unisegment")
    assert found == {
        "task": "panoptic",
        "checkpoint": "mine",
        "settings": {
            "size": {"shortest_edge": 8, "longest_edge": 4000},
            "panoptic_threshold": 0.5,
            "top_k": 3,
            "test_time_augmentation": [0.5, 1.0],
            "dtype": "float32",
            "tf32": True,
        },
    }


def test_tables_are_for_people():
    report = evaluate(make_predictor(), SAMPLES, boundaries=True)
    lines = format_report(report).splitlines()
    assert lines[0] == "6 images"
    (pq,) = (line for line in lines if line.startswith("PQ  "))
    assert pq.split()[-1] == f"{report['panoptic']['all']['pq']:.3f}"
    (header,) = (line for line in lines if line.startswith("label"))
    assert header.split("  ")[-1].strip() == "boundary IoU"
    (sky,) = (line for line in lines if line.startswith("sky"))
    assert sky.split()[4:6] == ["-", "-"]
    assert len({len(line) for line in lines[lines.index(header) :]}) == 1


def test_tasks_that_were_not_evaluated_do_not_show():
    report = evaluate(make_predictor(), SAMPLES, tasks=("semantic",))
    assert list(headlines(report)) == ["mIoU", "fwIoU", "mAcc", "pAcc"]
    assert "PQ" not in format_report(report)


def test_the_task_comes_first_and_what_cannot_be_evaluated_does_not_show():
    report = evaluate(make_predictor(), SAMPLES)
    assert next(iter(headlines(report))) == "PQ"
    for task, first in (("semantic", "mIoU"), ("instance", "mask AP"), ("panoptic", "PQ")):
        assert next(iter(headlines(report | {"task": task}))) == first
        _, scores, labels = format_report(report | {"task": task}).split("\n\n")
        assert scores.splitlines()[1].split("  ")[0] == first
        assert labels.split()[1] == {"mIoU": "IoU", "mask AP": "AP", "PQ": "PQ"}[first]
    assert headlines(report)["AP large"] is None
    assert "AP large" not in format_report(report)
