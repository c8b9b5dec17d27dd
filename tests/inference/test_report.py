# SPDX-License-Identifier: Apache-2.0
import json

from tests.inference.reads_colours import SAMPLES, make_predictor
from unisegment.inference.evaluation import evaluate
from unisegment.inference.report import format_report, headlines, make_report

NAMES = {0: "disc", 1: "ring", 2: "sky"}


def test_a_report_has_all_scores_by_label_and_can_be_written():
    scores = evaluate(make_predictor(), SAMPLES, boundaries=True)
    report = json.loads(json.dumps(make_report(scores, NAMES), allow_nan=False))
    assert set(report) == {"images", "panoptic", "instance", "semantic"}
    assert report["panoptic"]["things"]["pq"] == scores["panoptic"]["things"]["pq"]
    assert report["panoptic"]["per_class"][2] == {"label": 2, "name": "sky", **scores["panoptic"]["per_class"][2]}
    assert report["instance"]["ap_large"] is None
    assert report["instance"]["boundary_ap"] == scores["instance"]["boundary"]["ap"]
    assert [line["name"] for line in report["instance"]["per_class"]] == ["disc", "ring"]
    assert report["semantic"]["boundary_miou"] == scores["semantic"]["boundary"]["miou"]
    assert set(report["semantic"]["per_class"][0]) == {"label", "name", "iou", "boundary_iou"}


def test_tables_are_for_people():
    scores = evaluate(make_predictor(), SAMPLES, boundaries=True)
    report = make_report(scores, NAMES)
    lines = format_report(report).splitlines()
    assert lines[0] == "6 images"
    (pq,) = (line for line in lines if line.startswith("PQ  "))
    assert pq.split()[-1] == f"{report['panoptic']['all']['pq']:.3f}"
    (header,) = (line for line in lines if line.startswith("label"))
    assert header.split("  ")[-1].strip() == "boundary IoU"
    (sky,) = (line for line in lines if line.startswith("sky"))
    assert sky.split()[4:6] == ["-", "-"]
    assert len({len(line) for line in lines[lines.index(header) :]}) == 1


def test_tasks_that_were_not_judged_do_not_show():
    report = make_report(evaluate(make_predictor(), SAMPLES, tasks=("semantic",)), NAMES)
    assert list(headlines(report)) == ["mIoU", "fwIoU", "mAcc", "pAcc"]
    assert "PQ" not in format_report(report)


def test_the_task_comes_first_and_what_cannot_be_judged_does_not_show():
    report = make_report(evaluate(make_predictor(), SAMPLES), NAMES)
    assert next(iter(headlines(report))) == "PQ"
    for task, first in (("semantic", "mIoU"), ("instance", "mask AP"), ("panoptic", "PQ")):
        assert next(iter(headlines(report | {"task": task}))) == first
        _, scores, labels = format_report(report | {"task": task}).split("\n\n")
        assert scores.splitlines()[1].split("  ")[0] == first
        assert labels.split()[1] == {"mIoU": "IoU", "mask AP": "AP", "PQ": "PQ"}[first]
    assert headlines(report)["AP large"] is None
    assert "AP large" not in format_report(report)
