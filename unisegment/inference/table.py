# SPDX-License-Identifier: Apache-2.0
"""Rows of texts, or a prediction, in; a table for a person out."""

import unicodedata
from collections.abc import Sequence

from unisegment.inference.measures import measure
from unisegment.structures import Prediction

_WIDEST_LABEL = 40


def table(prediction: Prediction, most: int = 20) -> str:
    """Return the segments as a table for a person, the largest first; no line break at the end.

    Columns are the label, the score, the share of the image's pixels, and the box in pixels as `measure` gives it.

    Args:
        prediction: What was found.
        most: Segments to show; a last line says how many more there are.
    """
    height, width = prediction.segmentation.shape
    found = sorted(measure(prediction), key=lambda segment: -segment["area"])
    if not found:
        return f"Nothing found in {width} x {height} pixels."
    rows = [["label", "score", "share", "x0", "y0", "x1", "y1"]]
    rows += [
        [segment["label"], f"{segment['score']:.2f}", _share(segment["area"], height * width)]
        + [str(place) for place in segment["box"]]
        for segment in found[:most]
    ]
    rest = f"\n... and {len(found) - most} more" if len(found) > most else ""
    return aligned(rows) + rest


def summary(prediction: Prediction) -> str:
    """Return what was found in one line: `3 cow, 1 sky`."""
    found = prediction.count()
    return ", ".join(f"{number} {label}" for label, number in found.items()) or "nothing found"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines, the first column flush left, the others flush right.

    Wide characters of East Asia count twice and marks on others not at all, as terminals write them. Long texts of the
    first column are cut; what would break a line becomes a space.
    """
    cells = [[_shortened(row[0]), *row[1:]] for row in rows]
    widths = [max(map(_columns, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        padded = [first + " " * (widths[0] - _columns(first))]
        padded += [" " * (width - _columns(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _share(area: int, pixels: int) -> str:
    return "<0.1%" if 0 < area < pixels / 1000 else f"{area / pixels:.1%}"


def _shortened(text: str) -> str:
    text = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign for sign in text)
    if _columns(text) <= _WIDEST_LABEL:
        return text
    while _columns(text) > _WIDEST_LABEL - 3:
        text = text[:-1]
    return text + "..."


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    signs = (sign for sign in text if unicodedata.category(sign) not in ("Mn", "Me", "Cf"))
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in signs)
