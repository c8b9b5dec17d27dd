# SPDX-License-Identifier: Apache-2.0
"""What a report of benchmarks/gpu_report says: its table again, README's rows, and plots (these need matplotlib).

Run it wherever there is a report:

    python benchmarks/gpu_report_figures.py REPORT.json --readme --plots FOLDER
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_report.kernel_names import OURS_FUSED, TRANSFORMERS
from gpu_report.table import to_table

Row = dict[str, Any]
_SIZES = {"encoder": "encoder of a 1024×1024 image, 21,504 queries", "decoder": "decoder, 300 queries on four levels"}
_DTYPES = ("float32", "bfloat16", "float16")
_DIRECTIONS = ("forward", "backward")


def main() -> None:
    """Print, and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--readme", action="store_true", help="print the rows of README's table instead")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write kernel.png and model.png there")
    arguments = parser.parse_args()
    content = json.loads(arguments.report.read_text(encoding="utf-8"))
    print("\n".join(readme_rows(content["rows"])) if arguments.readme else to_table(content))
    if arguments.plots:
        arguments.plots.mkdir(parents=True, exist_ok=True)
        plot_kernel(content["rows"], arguments.plots / "kernel.png")
        plot_model(content["rows"], arguments.plots / "model.png")


def readme_rows(rows: Sequence[Row]) -> list[str]:
    """Return lines of README's table of the kernel: how many times our time and memory transformers takes."""
    name = next((row["value"] for row in rows if row["stage"] == "environment" and row["what"] == "name"), "GPU")
    lines = []
    for size, words in _SIZES.items():
        for dtype in _DTYPES:
            cells = [_ratio(rows, f"{size} {dtype} b1 {direction}", "ms") for direction in _DIRECTIONS]
            cells += [_ratio(rows, f"{size} {dtype} b1 {direction}", "peak_mib") for direction in _DIRECTIONS]
            if any(cell != "–" for cell in cells):
                lines.append(f"| {words}, {name} | {dtype} | {' | '.join(cells)} |")
    return lines


def _ratio(rows: Sequence[Row], what: str, measure: str) -> str:
    found = {row["who"]: row.get(measure) for row in _of_kernel(rows) if row["what"] == what}
    ours, theirs = found.get(OURS_FUSED), found.get(TRANSFORMERS)
    return f"{theirs / ours:.2g}" if ours and theirs else "–"


def _of_kernel(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["stage"] == "kernel_table" and "ms" in row]


def plot_kernel(rows: Sequence[Row], path: Path) -> None:
    """Plot the times of one image in the encoder, and the least that is possible."""
    figure, axes = _figure(len(_DIRECTIONS))
    for axis, direction in zip(axes, _DIRECTIONS, strict=True):
        chosen = [row for row in _of_kernel(rows) if row["what"].endswith(f" b1 {direction}")]
        names = sorted({row["what"] for row in chosen if row["what"].startswith("encoder")})
        _bars(axis, chosen, names, "ms")
        for number, name in enumerate(names):
            floor = next((row["floor_ms"] for row in chosen if row["what"] == name and "floor_ms" in row), None)
            if floor is not None:
                axis.hlines(floor, number - 0.45, number + 0.45, colors="black", linestyles="dotted")
        axis.set_title(f"{direction} of one layer, ms (dotted: least possible)")
        axis.set_yscale("log")
    figure.savefig(path, dpi=120)


def plot_model(rows: Sequence[Row], path: Path) -> None:
    """Plot time and peak memory of whole models."""
    figure, axes = _figure(2)
    chosen = [row for row in rows if row["stage"].startswith("whole_model") and row.get("who")]
    for axis, measure in zip(axes, ("ms", "peak_mib"), strict=True):
        measured = [row for row in chosen if row.get(measure)]
        _bars(axis, measured, list(dict.fromkeys(row["what"] for row in measured)), measure)
        axis.set_title({"ms": "ms", "peak_mib": "peak memory, MiB"}[measure])
        axis.set_yscale("log")
    figure.savefig(path, dpi=120)


def _figure(count: int):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, count, figsize=(7 * count, 5), layout="constrained")


def _bars(axis, rows: Sequence[Row], names: Sequence[str], measure: str) -> None:
    """Draw a group of bars for each name, with one for everybody that did it."""
    who = list(dict.fromkeys(row["who"] for row in rows))
    for number, each in enumerate(who):
        heights = {row["what"]: row[measure] for row in rows if row["who"] == each}
        places = [place + 0.8 * (number - (len(who) - 1) / 2) / len(who) for place in range(len(names))]
        axis.bar(places, [heights.get(name, 0) for name in names], 0.8 / len(who), label=each)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    if who:
        axis.legend(fontsize=8)


if __name__ == "__main__":
    main()
