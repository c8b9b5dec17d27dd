# SPDX-License-Identifier: Apache-2.0
"""Write the tables and figures of docs/benchmarks.md from benchmarks/results.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; a figure is docs/figures/NAME.svg. A test compares
both with what is written here, so that the page says what was measured. Run it after a benchmark:

    python benchmarks/docs_page.py
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gpu_report_tables
from charts import bar_chart, line_charts
from inference_rows.cases import BATCH_SIZES, KINDS, SIDES, SIZES, TASKS, Case
from training_rows.cases import CURVES, TABLE

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "figures"
_GPU_REPORT = "gpu_report_H200"
_OURS, _THEIRS, _FLOOR = "unisegment", "transformers", "products alone"
_TIMES = "Time of transformers / time of unisegment"
_KERNEL_SIZES = {
    "encoder": "encoder of a 1024×1024 image, 21,504 queries",
    "decoder": "decoder, 300 queries, four levels",
}
_WITH = {
    "float32": "",
    "checkpointing": "checkpointing",
    "bfloat16": "bf16 autocast",
    "checkpointing_bfloat16": "both",
}
_CURVES = {
    "sides": "one image with 20 masks, by its side",
    "masks": "one image of 512×512, by its masks",
    "batches": "images of 512×512 with 20 masks, by their number",
}


def main() -> None:
    """Write page and figures."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    FIGURES.mkdir(exist_ok=True)
    for name, text in figures().items():
        (FIGURES / f"{name}.svg").write_text(text, encoding="utf-8")


def page(text: str) -> str:
    """Return the page with the tables of today's results."""
    for name, lines in tables().items():
        text, count = re.subn(
            rf"(<!-- table: {name} -->\n).*?(<!-- end -->)",
            lambda match, lines=lines: f"{match[1]}\n" + "\n".join(lines) + f"\n\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(f"docs/benchmarks.md must have one table {name}, it has {count}.")
    return text


def tables() -> dict[str, list[str]]:
    """Return lines of each table."""
    return {
        "inference": _inference(),
        "inference_memory": _inference_memory(),
        "result_times": _result_times(),
        "training_step": _training_step(),
        "training_curves": _training_figures(),
        "training_peers": _training_peers("training_peers_cpu"),
        "training_peers_eomt": _training_peers("training_peers_eomt_cpu"),
        "ms_deform_attn": _ms_deform_attn(),
        "post_processing": _post_processing(),
        "inference_scores": _inference_scores(),
        "panoptic_quality": _panoptic_quality(),
        "data_loading": _data_loading(),
        "number_formats": _number_formats(),
        "speed_and_scores": _speed_and_scores(),
        "speed_r50": _speed_r50(),
        "gpu_kernel": _of_cells(gpu_report_tables.kernel_cells(_gpu_rows())),
        "gpu_inference": _of_cells(gpu_report_tables.model_cells(_gpu_rows(), is_training=False)),
        "gpu_training": _of_cells(gpu_report_tables.model_cells(_gpu_rows(), is_training=True)),
    }


def figures() -> dict[str, str]:
    """Return the SVG text of each figure."""
    steps, training = _read("training_step_cpu")["rows"], _read("training_peers_cpu")["transformers / unisegment"]
    kernel = _read("ms_deform_attn_cpu")
    bars = [
        *((f"inference, {case.model} {case.side}²", 1 / row["ratio"]) for case, row in _networks("float32")),
        *(
            (f"training step, {case.model} {case.side}²", 1 / steps[case.name]["ratio"])
            for case in TABLE
            if case.kind == "float32" and case.masks == 20 and "ratio" in steps.get(case.name, {})
        ),
        ("training of 600 steps", training["train_seconds"]),
        ("deformable attention, forward", _kernel_ratio(kernel, "encoder", "float32", "forward seconds")),
        ("deformable attention, backward", _kernel_ratio(kernel, "encoder", "float32", "backward seconds")),
    ]
    quality = _read("post_processing")
    masks = [
        (f"{size} objects, {who}", quality[size][who])
        for size in ("small", "medium", "large")
        for who in (_THEIRS, _OURS)
    ]
    return {
        "gpu": bar_chart(f"{_TIMES}, on an NVIDIA H200", gpu_report_tables.bars(_gpu_rows()), least=0, mark=1),
        "times": bar_chart(f"{_TIMES} (1: equal)", bars, least=0, mark=1),
        "masks": bar_chart("Mean IoU of masks from perfect logits", masks, least=0.9),
        "inference_sides": _curves(
            "inference", "R50, one image, by its side", {side: Case("R50", side) for side in SIDES}
        ),
        "inference_batches": _curves(
            "inference",
            "R50, images of 512×512, by their number",
            {count: Case("R50", 512, batch_size=count) for count in BATCH_SIZES},
        ),
        **{
            f"training_{name}": _curves("training_step_cpu", f"Training step, R50, {words}", CURVES[name])
            for name, words in _training_curves().items()
        },
    }


def _read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in cells]


def _of_cells(cells: Iterable[Sequence[Any]]) -> list[str]:
    head, *rows = cells
    return _table(head, rows)


def _gpu_rows() -> list[dict[str, Any]]:
    return _read(_GPU_REPORT)["rows"]


def _inference() -> list[str]:
    rows = []
    for case, row in _networks():
        seconds = (f"{row['seconds'][who]['median']:.3g}" for who in (_THEIRS, _OURS, _FLOOR))
        ratios = (f"{row[ratio]:.2f}" for ratio in ("ratio", "over floor"))
        rows.append((case.model, case.side, case.kind.replace("_", " "), *seconds, *ratios))
    head = ("model", "side", "ours in", _THEIRS, _OURS, _FLOOR, f"{_OURS} / {_THEIRS}", f"{_OURS} / {_FLOOR}")
    return _table(head, rows)


def _inference_memory() -> list[str]:
    rows = [
        (
            case.model,
            case.side,
            *(f"{row['peak MiB'][who]:.0f}" for who in (_THEIRS, _OURS)),
            f"{row['memory ratio']:.2f}",
        )
        for case, row in _networks()
        if "memory ratio" in row
    ]
    return _table(("model", "side", _THEIRS, _OURS, f"{_OURS} / {_THEIRS}"), rows)


def _networks(*kinds: str) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Yield the rows that have times, of the forms of our network that are named or of all, without those of curves."""
    rows = _read("inference")["rows"]
    for case in (Case(*size, kind) for size in SIZES for kind in kinds or KINDS):
        if "seconds" in (row := rows.get(case.name, {})):
            yield case, row


def _result_times() -> list[str]:
    rows, results = [], _read("inference")["rows"]
    for task in TASKS:
        if "seconds" in (row := results.get(f"post-processing-{task}", {})):
            seconds = (f"{row['seconds'][who]['median']:.3g}" for who in (_THEIRS, _OURS))
            rows.append((task, *seconds, f"{row['ratio']:.2f}"))
    return _table(("", _THEIRS, _OURS, f"{_OURS} / {_THEIRS}"), rows)


def _curves(results: str, title: str, cases: Mapping[int, Any]) -> str:
    """Draw the time and memory of both over what differs between cases."""
    found = _points(results, cases)
    panels = {
        "seconds": {who: {x: row["seconds"][who]["median"] for x, row in found.items()} for who in (_THEIRS, _OURS)},
        "peak MiB": {who: {x: row["peak MiB"][who] for x, row in found.items()} for who in (_THEIRS, _OURS)},
    }
    return line_charts(title, panels)


def _points(results: str, cases: Mapping[int, Any]) -> dict[int, dict[str, Any]]:
    """Return the rows of a curve that have both time and memory."""
    rows = _read(results)["rows"]
    return {x: row for x, case in cases.items() if {"ratio", "memory ratio"} <= (row := rows.get(case.name, {})).keys()}


def _training_curves() -> dict[str, str]:
    """Return the curves that have been measured, and what they show in words."""
    return {name: words for name, words in _CURVES.items() if len(_points("training_step_cpu", CURVES[name])) > 1}


def _training_figures() -> list[str]:
    return [
        f"![Training step, R50, {words}](figures/training_{name}.svg)" for name, words in _training_curves().items()
    ]


def _training_step() -> list[str]:
    results, rows = _read("training_step_cpu")["rows"], []
    for case in TABLE:
        row = results.get(case.name, {})
        cells = [case.model, case.side, case.masks, _WITH[case.kind]]
        for measure, ratio in (("seconds", "ratio"), ("peak MiB", "memory ratio")):
            values = [row.get(measure, {}).get(who) for who in (_THEIRS, _OURS)]
            values = [value["median"] if isinstance(value, dict) else value for value in values]
            cells += ["", "", ""] if None in values else [*(f"{value:.3g}" for value in values), f"{row[ratio]:.2f}"]
        if any(cells[4:]):
            rows.append(cells)
    both = (_THEIRS, _OURS, "ratio")
    heads = [f"{words}, {who}" for words in ("seconds", "MiB") for who in both]
    return _table(("model", "side", "masks", "ours with", *heads), rows)


def _training_peers(name: str) -> list[str]:
    results = _read(name)
    rows = []
    for who in (_THEIRS, _OURS):
        scores = [[run[key] for run in results["runs"][who]] for key in ("pq", "mask_ap", "miou")]
        means = results["means"][who]
        ranges = (f"{min(values):.3f} to {max(values):.3f}" for values in scores)
        rows.append((who, *ranges, f"{means['train_seconds']:.0f}", f"{means['peak_mebibytes']:.0f}"))
    return _table(("", "PQ", "mask AP", "mIoU", "seconds, mean", "peak MiB, mean"), rows)


def _panoptic_quality() -> list[str]:
    results = _read("panoptic_quality")
    words = {"memory": "maps in memory", "files": "files in COCO's format"}
    rows = [
        (words[name], f"{found['panopticapi']:.1f}", f"{found[_OURS]:.1f}", f"{found[f'panopticapi / {_OURS}']:.1f}")
        for name, found in ((name, results[name]) for name in words)
    ]
    return _table(("500 images of 640×480", "panopticapi's algorithm, s", "unisegment, s", "ratio"), rows)


def _kernel_ratio(results: dict[str, Any], size: str, dtype: str, measure: str) -> float:
    found = results[f"{size}, {dtype}, from offsets"]
    return found[_THEIRS][measure] / found["our fused kernel"][measure]


def _ms_deform_attn() -> list[str]:
    results = _read("ms_deform_attn_cpu")
    measures = ("forward seconds", "backward seconds", "forward peak MiB", "forward and backward peak MiB")
    rows = [
        (words, dtype, *(f"{_kernel_ratio(results, size, dtype, measure):.0f}" for measure in measures))
        for size, words in _KERNEL_SIZES.items()
        for dtype in ("float32", "bfloat16")
    ]
    return _table(("size", "dtype", "forward", "backward", "peak memory, forward", "peak memory, both"), rows)


def _post_processing() -> list[str]:
    results = _read("post_processing")
    sizes = ("small", "medium", "large")
    return _table(("objects", *sizes), [(who, *(results[size][who] for size in sizes)) for who in (_THEIRS, _OURS)])


def _inference_scores() -> list[str]:
    scores = _read("inference_scores")["scores"]
    measures = ("PQ", "mask AP", "boundary AP", "mIoU")
    return _table(
        ("", *measures), [(who, *(f"{scores[who][name]:.3f}" for name in measures)) for who in (_THEIRS, _OURS)]
    )


def _data_loading() -> list[str]:
    results = _read("data_loading")
    rows = []
    for task, row in results.items():
        if isinstance(row, dict) and _OURS in row:
            theirs, ours = (row[who]["images per second"] for who in ("transformers, PIL", _OURS))
            rows.append((task, theirs, ours, f"{ours / theirs:.1f}"))
    return _table(("images a second", _THEIRS, _OURS, "ratio"), rows)


def _number_formats() -> list[str]:
    results = _read("number_formats")["in use"]
    shares, measures = ("pixels as in float32", "in the worst image"), ("PQ", "mask AP", "mIoU")
    rows = [
        (name, *(f"{100 * row[share]:.2f} %" for share in shares), *(f"{row[measure]:.3f}" for measure in measures))
        for name, row in results.items()
    ]
    return _table(("network in", "panoptic pixels as in float32", "in the worst image", *measures), rows)


def _speed_and_scores() -> list[str]:
    rows = _read("speed_and_scores")["rows"]
    speeds, measures = ("network images/s", "whole images/s"), ("PQ", "mask AP", "mIoU")
    cells = [
        (
            name,
            *(f"{row[speed] / rows['as trained'][speed]:.2f}" for speed in speeds),
            *(f"{row[measure]:.3f}" for measure in measures),
            f"{100 * row['pixels as trained']:.2f} %" if "pixels as trained" in row else "",
            row["weights MiB"],
        )
        for name, row in rows.items()
    ]
    head = ("", "speed, network", "speed, whole", *measures, "panoptic pixels as trained", "weights, MiB")
    return _table(head, cells)


def _speed_r50() -> list[str]:
    seconds = _read("speed_and_scores")["R50, seconds"]
    return _table(("", "speed"), [(name, f"{seconds['as trained'] / one:.2f}") for name, one in seconds.items()])


if __name__ == "__main__":
    main()
