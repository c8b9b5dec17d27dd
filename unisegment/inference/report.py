# SPDX-License-Identifier: Apache-2.0
"""The scores of an evaluation in; a report for machines and a table for people out."""

import math
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from unisegment.inference.predictor import Predictor
from unisegment.inference.table import aligned
from unisegment.ops.tf32 import is_tf32_allowed
from unisegment.structures import TASKS

_SHORT = {
    "pq": ("panoptic", "all", "pq"),
    "sq": ("panoptic", "all", "sq"),
    "rq": ("panoptic", "all", "rq"),
    "pq_things": ("panoptic", "things", "pq"),
    "pq_stuff": ("panoptic", "stuff", "pq"),
    "mask_ap": ("instance", "ap"),
    "miou": ("semantic", "miou"),
}
SHORT_NAMES = (*_SHORT, "images")
"""Keys of a report that `metrics.json` of a run has, too."""
_HEADLINES = {
    "PQ": ("panoptic", "all", "pq"),
    "PQ things": ("panoptic", "things", "pq"),
    "PQ stuff": ("panoptic", "stuff", "pq"),
    "SQ": ("panoptic", "all", "sq"),
    "RQ": ("panoptic", "all", "rq"),
    "mask AP": ("instance", "ap"),
    "AP50": ("instance", "ap50"),
    "AP75": ("instance", "ap75"),
    "AP small": ("instance", "ap_small"),
    "AP medium": ("instance", "ap_medium"),
    "AP large": ("instance", "ap_large"),
    "boundary AP": ("instance", "boundary_ap"),
    "mIoU": ("semantic", "miou"),
    "fwIoU": ("semantic", "fwiou"),
    "mAcc": ("semantic", "mean_accuracy"),
    "pAcc": ("semantic", "pixel_accuracy"),
    "boundary mIoU": ("semantic", "boundary_miou"),
}
_COLUMNS = {
    "PQ": ("panoptic", "pq"),
    "SQ": ("panoptic", "sq"),
    "RQ": ("panoptic", "rq"),
    "AP": ("instance", "ap"),
    "boundary AP": ("instance", "boundary_ap"),
    "IoU": ("semantic", "iou"),
    "boundary IoU": ("semantic", "boundary_iou"),
}


def make_report(scores: Mapping[str, Any], id2label: Mapping[int, str]) -> dict[str, Any]:
    """Return the scores of all images as JSON has them: in [0, 1], or None where there is nothing to score.

    Args:
        scores: `images`, how many there are; for each task what its metric computes (see `unisegment.metrics`), with
            `boundary` beside it where asked for, or None where it is not defined.
        id2label: Name of each label.

    Returns:
        The scores that stand for the whole, `pq`, `sq`, `rq`, `pq_things`, `pq_stuff`, `mask_ap` (of the things) and
        `miou`; `images`; and then all: `panoptic` with `all`, `things` and `stuff`; `instance`; `semantic`; these with
        `per_class`, a list of dicts with `label`, `name` and the scores of that label.
    """
    report = {task: _task_report(task, scores[task], id2label) for task in TASKS if scores.get(task) is not None}
    short = {name: _value_at(report, path) for name, path in _SHORT.items()}
    return _without_nan({**short, "images": scores["images"], **report})


def description(predictor: Predictor) -> dict[str, Any]:
    """Return what a report says about the predictor: its task, checkpoint and settings."""
    return {
        "task": predictor.task,
        "checkpoint": predictor.checkpoint,
        "unisegment": metadata.version("unisegment"),
        "settings": {
            "size": predictor.processor.size,
            "panoptic_threshold": predictor.panoptic_threshold,
            "top_k": predictor.top_k,
            "test_time_augmentation": None if predictor.scales is None else list(predictor.scales),
            "dtype": str(next(predictor.model.parameters()).dtype).removeprefix("torch."),
            "tf32": is_tf32_allowed(),
        },
    }


def _task_report(task: str, scores: Mapping[str, Any], id2label: Mapping[int, str]) -> dict[str, Any]:
    boundary = scores.get("boundary")
    totals = {key: value for key, value in scores.items() if key not in ("per_class", "boundary")}
    if boundary is not None:
        totals |= {f"boundary_{key}": value for key, value in boundary.items() if key != "per_class"}
    one = "iou" if task == "semantic" else "ap"
    lines = []
    for label, value in sorted(scores["per_class"].items()):
        line = {"label": label, "name": id2label.get(label, str(label))}
        line |= value if isinstance(value, Mapping) else {one: value}
        if boundary is not None:
            line[f"boundary_{one}"] = boundary["per_class"][label]
        lines.append(line)
    return totals | {"per_class": lines}


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def headlines(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the scores of a report that stand for the whole, by the names that people give them.

    Those of its `task` come first, if it has one.
    """
    ordered = _main_first(_HEADLINES, report)
    return {name: _value_at(report, path) for name, path in ordered if path[-1] in (_value_at(report, path[:-1]) or {})}


def _value_at(report: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return what is at the end of a path of keys, None where it ends before."""
    value: Any = report
    for key in path:
        value = (value or {}).get(key)
    return value


def format_report(report: Mapping[str, Any]) -> str:
    """Return the tables for people: all scores that there are, from 0 to 1, then those of each label.

    Args:
        report: What `make_report` returned.
    """
    rows = [["", "score"]]
    rows += [[name, _score(value)] for name, value in headlines(report).items() if value is not None]
    return f"{report['images']} images\n\n{aligned(rows)}\n\n{aligned(_class_rows(report))}"


def _main_first(scores: Mapping[str, tuple[str, ...]], report: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    return sorted(scores.items(), key=lambda item: item[1][0] != report.get("task"))


def _class_rows(report: Mapping[str, Any]) -> list[list[str]]:
    by_label: dict[int, dict[str, Any]] = {}
    for task in TASKS:
        for line in report.get(task, {}).get("per_class", []):
            by_label.setdefault(line["label"], {"name": line["name"]})[task] = line
    columns = {
        name: path
        for name, path in _main_first(_COLUMNS, report)
        if any(path[1] in row.get(path[0], {}) for row in by_label.values())
    }
    rows = [["label", *columns]]
    for _, row in sorted(by_label.items()):
        rows.append([row["name"]] + [_score(row.get(task, {}).get(key)) for task, key in columns.values()])
    return rows


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
