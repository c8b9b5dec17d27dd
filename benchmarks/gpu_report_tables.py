# SPDX-License-Identifier: Apache-2.0
"""What docs/benchmarks.md shows of a report of benchmarks/gpu_report: lines of its tables, and bars of its figure."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from gpu_report.kernel_names import OURS_FUSED, SENSETIME, TRANSFORMERS

Row = dict[str, Any]
_SIZES = {"encoder": "encoder, 21,504 queries an image", "decoder": "decoder, 300 queries on four levels"}
_KERNEL = re.compile(r"(encoder|decoder) (\w+) b(\d+) (forward|backward)$")
_NOT_KNOWN = "–"
_BARS = {
    "encoder bfloat16 b1 forward": "deformable attention, forward, bfloat16",
    "encoder bfloat16 b1 backward": "deformable attention, backward, bfloat16",
    "R50 1024x1024 b1 bf16 recorded": "inference, R50 1024², 1 image",
    "R50 512x512 b1 bf16 recorded": "inference, R50 512², 1 image",
    "R50 1024x1024 b16 bf16": "inference, R50 1024², 16 images",
    "Swin-L 1024x1024 b16 bf16": "inference, Swin-L 1024², 16 images",
    "training R50 1024x1024 b4 bf16": "training step, R50 1024², 4 images",
    "training R50 1024x1024 b16 bf16": "training step, R50 1024², 16 images",
    "training Swin-L 1024x1024 b4 bf16": "training step, Swin-L 1024², 4 images",
}
"""Rows of the figure, and what they are called there."""


def kernel_cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Yield cells of the kernel's table: milliseconds of one layer, and how many times ours the others take."""
    yield ["size", "images", "numbers", "", "unisegment, ms", "least possible, ms", "transformers", "SenseTime"]
    found = {(row["what"], row["who"]): row for row in rows if row["stage"] == "kernel_table" and "ms" in row}
    for (what, who), row in found.items():
        named = _KERNEL.match(what)
        if who != OURS_FUSED or named is None:
            continue
        size, dtype, images, direction = named.groups()
        peers = (found.get((what, peer), {}).get("ms") for peer in (TRANSFORMERS, SENSETIME))
        ratios = (f"{ms / row['ms']:.2g} ×" if ms else _NOT_KNOWN for ms in peers)
        yield [_SIZES[size], images, dtype, direction, f"{row['ms']:.3g}", f"{row['floor_ms']:.2g}", *ratios]


def model_cells(rows: Sequence[Row], is_training: bool) -> Iterator[list[str]]:
    """Yield cells of the table of whole models: milliseconds, and how many times ours transformers takes."""
    measures = ["ms"] if is_training else ["ms", "ms_post"]
    words = {"ms": ["unisegment, ms", "time"], "ms_post": ["with panoptic results, ms", "time"]}
    yield ["", *(word for measure in measures for word in words[measure]), "peak memory"]
    for what, ours, theirs in _pairs(rows):
        if what.startswith("training ") == is_training:
            cells = [cell for measure in measures for cell in (f"{ours[measure]:.3g}", _times(theirs, ours, measure))]
            yield [what.removeprefix("training "), *cells, _times(theirs, ours, "peak_mib")]


def bars(rows: Sequence[Row]) -> list[tuple[str, float]]:
    """Return how many times ours transformers takes, for what the figure shows."""
    ratios = {what: theirs["ms"] / ours["ms"] for what, ours, theirs in _pairs(rows)}
    kernel = {(row["what"], row["who"]): row["ms"] for row in rows if row["stage"] == "kernel_table" and "ms" in row}
    for what, who in kernel:
        if who == OURS_FUSED and (what, TRANSFORMERS) in kernel:
            ratios[what] = kernel[what, TRANSFORMERS] / kernel[what, who]
    return [(name, ratios[what]) for what, name in _BARS.items() if what in ratios]


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """Yield the name of each case of ours, its row, and that of transformers beside it."""
    measured = [row for row in rows if row["stage"].startswith("whole_model") and "ms" in row]
    found = {(row["what"], row["who"]): row for row in measured}
    for (what, who), row in found.items():
        theirs = found.get((re.sub(r" (recorded|decoder \w+)$", "", what), "transformers"))
        if who == "ours" and theirs is not None and not what.endswith(" eager"):
            yield what, row, theirs


def _times(theirs: Row, ours: Row, measure: str) -> str:
    return f"{theirs[measure] / ours[measure]:.2g} ×" if ours.get(measure) and theirs.get(measure) else _NOT_KNOWN
