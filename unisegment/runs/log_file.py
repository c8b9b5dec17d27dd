# SPDX-License-Identifier: Apache-2.0
"""What a run writes down: a file of JSON lines, which is cut back when training goes on from a step, and its scores."""

import json
import os
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from unisegment.files import WriteError, write_text
from unisegment.ops.json_reading import read_json
from unisegment.runs.settings import RecipeError

SCORES = ("pq", "pq_things", "pq_stuff", "mask_ap", "miou")
"""Numbers or null in a file of scores."""


def read_lines(log: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file, without the half line at its end that a crash may have left; each has a step.

    Raises:
        RecipeError: When another line is none; says which.
    """
    _require_plain(log)
    lines = log.read_bytes().split(b"\n") if log.exists() else []
    if lines and not lines[-1].endswith(b"}"):
        lines.pop()
    return [_line(text, log, number) for number, text in enumerate(lines, start=1)]


def _line(text: bytes, log: Path, number: int) -> dict[str, Any]:
    try:
        line = json.loads(text)
        if not isinstance(line, dict) or not _is_step(line.get("step")):
            raise ValueError("it has no step")
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"{log}, line {number}, is damaged: {error}. Remove that line, and give the same command again."
        ) from error
    return line


def _require_plain(log: Path) -> None:
    # Whoever hands over a run may have put a link there, and what it leads to would be written to.
    if os.path.lexists(log) and (log.is_symlink() or not log.is_file()):
        raise RecipeError(f"{log} is no file of its own, but a link or a device: remove it.")


def read_metrics(file: Path) -> dict[str, Any]:
    """Return the scores in a file of a run: `step`, `finished`, and those of `SCORES` that there are.

    Raises:
        RecipeError: When it is damaged; says which entry is.
    """
    try:
        metrics = read_json(file, "it")
        if not isinstance(metrics, dict):
            raise ValueError("it must hold an object with step and finished")
        kinds = {"step": _is_step, "finished": _is_truth, **dict.fromkeys(SCORES, _is_score)}
        for key, is_kind in kinds.items():
            if key in metrics and not is_kind(metrics[key]):
                raise ValueError(f"{key} is {metrics[key]!r:.50}")
        if "step" not in metrics:
            raise ValueError("it has no step")
    except (ValueError, OSError) as error:
        raise RecipeError(f"{file} is damaged: {error}. Remove it, and give the same command again.") from error
    return metrics


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _is_score(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def cut_log(log: Path, step: int) -> None:
    """Remove the lines of later steps and half a line."""
    lines = read_lines(log)
    if log.exists():
        write_text(log, "".join(f"{json.dumps(line)}\n" for line in lines if line["step"] <= step))


class LogFile:
    """A file that gets one JSON line after the other, each of them on its way to the disk at once.

    Args:
        path: Is appended to; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = None if path is None else path.open("a", encoding="utf-8", buffering=1, newline="\n")

    def write(self, line: dict[str, Any]) -> None:
        """Append a line; numbers that JSON has no word for become null.

        Raises:
            WriteError: When it cannot be written.
        """
        if self._file is None or self._path is None:
            return
        finite = {key: value if _is_json(value) else None for key, value in line.items()}
        try:
            self._file.write(json.dumps(finite) + "\n")
        except OSError as error:
            raise WriteError.of(self._path, error) from error

    def close(self) -> None:
        """Close the file. What could not be written has been said by then, and is tried once more here."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or isfinite(value)
