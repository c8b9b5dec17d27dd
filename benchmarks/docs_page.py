# SPDX-License-Identifier: Apache-2.0
"""Write the tables and figures of docs/benchmarks.md from benchmarks/results.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; a figure is docs/figures/NAME.svg. A test compares
both with what is written here, so that the page says what was measured. Run it after a benchmark:

    python benchmarks/docs_page.py
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "figures"
_OURS, _THEIRS = "unisegment", "transformers"
_KERNEL_SIZES = {
    "encoder": "encoder of a 1024×1024 image, 21,504 queries",
    "decoder": "decoder, 300 queries, four levels",
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
        "model_step": _model_step(),
        "eomt_step": _eomt_step(),
        "training_peers": _training_peers("training_peers_cpu"),
        "training_peers_eomt": _training_peers("training_peers_eomt_cpu"),
        "ms_deform_attn": _ms_deform_attn(),
        "post_processing": _post_processing(),
        "inference_peers": _inference_peers(),
        "data_loading": _data_loading(),
        "number_formats": _number_formats(),
    }


def figures() -> dict[str, str]:
    """Return the SVG text of each figure."""
    step, training = _read("model_step_cpu"), _read("training_peers_cpu")["transformers / unisegment"]
    kernel = _read("ms_deform_attn_cpu")
    bars = [
        ("forward pass, Swin-T", step["inference seconds"]["ratio"]),
        ("training step, Swin-T", step["training step seconds"]["ratio"]),
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
        "times": _bar_chart("Time of transformers / time of unisegment (1: equal)", bars, least=0, mark=1),
        "masks": _bar_chart("Mean IoU of masks from perfect logits", masks, least=0.9),
    }


def _read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in cells]


def _model_step() -> list[str]:
    results = _read("model_step_cpu")
    rows = [
        (name, *(f"{results[name][who]:.4g}" for who in (_THEIRS, _OURS)), f"{results[name]['ratio']:.2f}")
        for name in ("inference seconds", "training step seconds", "inference peak MiB", "training peak MiB")
    ]
    return _table(("", _THEIRS, _OURS, "ratio"), rows)


def _eomt_step() -> list[str]:
    results = _read("eomt_step_cpu")
    rows = []
    for part in ("inference", "inference with masks", "training"):
        for unit, numbers in (("seconds", "median seconds"), ("peak MiB", "peak_mebibytes")):
            theirs, ours = (results[part][numbers][who] for who in (_THEIRS, _OURS))
            rows.append((f"{part} {unit}", f"{theirs:.4g}", f"{ours:.4g}", f"{theirs / ours:.2f}"))
    return _table(("", _THEIRS, _OURS, "ratio"), rows)


def _training_peers(name: str) -> list[str]:
    results = _read(name)
    rows = []
    for who in (_THEIRS, _OURS):
        scores = [[run[key] for run in results["runs"][who]] for key in ("pq", "mask_ap", "miou")]
        means = results["means"][who]
        ranges = (f"{min(values):.3f} to {max(values):.3f}" for values in scores)
        rows.append((who, *ranges, f"{means['train_seconds']:.0f}", f"{means['peak_mebibytes']:.0f}"))
    return _table(("", "PQ", "mask AP", "mIoU", "seconds, mean", "peak MiB, mean"), rows)


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


def _inference_peers() -> list[str]:
    scores = _read("inference_peers")["scores"]
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


def _bar_chart(title: str, bars: Sequence[tuple[str, float]], least: float, mark: float | None = None) -> str:
    """Draw horizontal bars from `least` on, with a dashed line at `mark`; readable on light and on dark pages."""
    left, width, step = 250, 410, 30
    most = max(value for _, value in bars)
    scale = width / (most - least)
    height = 50 + step * len(bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="sans-serif" font-size="14">',
        f"<title>{title}</title>",
        f'<rect width="720" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-weight="bold">{title}</text>',
    ]
    for number, (name, value) in enumerate(bars):
        top = 40 + step * number
        color = "#b0b7c3" if name.endswith(_THEIRS) else "#2f6fb2"
        lines += [
            f'<text x="{left - 8}" y="{top + 15}" text-anchor="end">{name}</text>',
            f'<rect x="{left}" y="{top}" width="{(value - least) * scale:.1f}" height="20" fill="{color}"/>',
            f'<text x="{left + (value - least) * scale + 6:.1f}" y="{top + 15}">{value:.3g}</text>',
        ]
    if mark is not None:
        x = left + (mark - least) * scale
        lines.append(f'<path d="M{x:.1f} 36V{height - 8}" stroke="#444444" stroke-dasharray="4 3"/>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    main()
