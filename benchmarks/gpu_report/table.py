# SPDX-License-Identifier: Apache-2.0
"""The report as a table: a line for each thing that was done, short enough to be read at once."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

MOST_CHARACTERS = 11_000  # what some terminals and tools show of an output is its last 12,000
MOST_IN_LINE = 180
_ERROR = "ERROR"
_ASIDE = ("stage", "what", "who", "at_s", "error", "value")
_UNITS = {"ms": "ms", "us": "us", "peak_mib": "MiB", "images_per_s": "img/s", "percent": "%", "s": "s"}


def to_table(content: dict[str, Any]) -> str:
    """Return all rows as text, and the forecasts after them. Where that is too long, rows of the longest stages go."""
    blocks = {stage: _lines(rows) for stage, rows in _by_stage(content["rows"]).items()}
    forecasts = _forecast_lines(content["forecasts"])
    left_out: Counter[str] = Counter()
    while sum(map(_size, [*blocks.values(), forecasts])) > MOST_CHARACTERS and any(blocks.values()):
        longest = max(blocks, key=lambda stage: _size(blocks[stage]))
        lines = blocks[longest]
        # What failed is left out last.
        last = next((place for place in reversed(range(len(lines))) if _ERROR not in lines[place]), len(lines) - 1)
        del lines[last]
        left_out[longest] += 1
    state = "finished" if content["finished"] else "NOT FINISHED"
    lines = [f"{content['what']}: {len(content['rows'])} rows in {content['seconds']:.0f} s, {state}"]
    for stage, block in blocks.items():
        more = [f"  … {left_out[stage]} more in report.json"] if left_out[stage] else []
        lines += [f"== {stage}", *block, *more]
    return "\n".join([*lines, *forecasts])


def _size(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _by_stage(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["stage"], []).append(row)
    return found


def _lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each `what`, with everybody that did it, or one for each of them where that is too long."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(str(row.get("what", "")), []).append(_cell(row))
    lines = []
    for what, cells in found.items():
        joined = f"  {what}: {' | '.join(cells)}"
        lines += (
            [joined]
            if len(joined) <= MOST_IN_LINE
            else [f"  {what}: {cells[0]}", *(f"    {cell}" for cell in cells[1:])]
        )
    return list(map(_short, lines))


def _cell(row: dict[str, Any]) -> str:
    words = [str(row["who"])] if row.get("who") else []
    if "value" in row:
        words.append(str(row["value"]))
    words += [_measure(key, value) for key, value in row.items() if key not in _ASIDE and value is not None]
    if row.get("error"):
        words.append(f"{_ERROR} {row['error']}")
    return " ".join(words)


def _measure(key: str, value: Any) -> str:
    number = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{number} {_UNITS[key]}" if key in _UNITS else f"{key} {number}"


def _short(line: str) -> str:
    return line if len(line) <= MOST_IN_LINE else f"{line[: MOST_IN_LINE - 1]}…"


def _forecast_lines(forecasts: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["== forecasts"]
    for row in forecasts:
        borders = "..".join("" if row[key] is None else f"{row[key]:g}" for key in ("low", "high"))
        answer = {True: "held", False: "NOT HELD", None: "not measured"}[row["held"]]
        found = "" if row["measured"] is None else f" {row['measured']:.4g}"
        lines.append(f"  {row['name']}: {borders} {row['measure']}:{found} {answer}")
    return lines
