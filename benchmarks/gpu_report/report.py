# SPDX-License-Identifier: Apache-2.0
"""The report as data: a file that is whole after every row, whatever happens to the process that writes it."""

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

from gpu_report.forecasts import compare
from gpu_report.rows import Row

ROOT = Path(__file__).resolve().parents[2]
FILE = "report.json"


def _load_files():
    """Return unisegment/files.py alone: whether the library can be imported is what a stage finds out."""
    spec = importlib.util.spec_from_file_location("unisegment_files", ROOT / "unisegment" / "files.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Report:
    """All rows until now.

    Args:
        folder: Where report.json is.
        command: What was asked for, for the reader.
        small: Whether sizes are tiny, which says nothing about a GPU.
    """

    def __init__(self, folder: Path, command: list[str], small: bool) -> None:
        self._path, self._began = folder / FILE, time.monotonic()
        self.rows: list[Row] = []
        self._small = small
        self._head = {
            "what": "benchmarks/gpu_report",
            "command": command,
            "small": small,
            "began": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._write = _load_files().write_text

    def add(self, stage: str, row: Row) -> None:
        """Add a row and write the file."""
        self.rows.append({"stage": stage, **row, "at_s": round(time.monotonic() - self._began, 1)})
        self.save(finished=False)

    def content(self, finished: bool) -> dict[str, Any]:
        """Return all that is known, and whether more is to come."""
        return {
            **self._head,
            "finished": finished,
            "seconds": round(time.monotonic() - self._began, 1),
            "forecasts": compare([] if self._small else self.rows),
            "rows": self.rows,
        }

    def save(self, finished: bool) -> None:
        """Write the file; all of it or nothing."""
        lines = [f"{json.dumps(key)}: {_block(value)}" for key, value in self.content(finished).items()]
        self._write(self._path, "{\n" + ",\n".join(lines) + "\n}\n")


def _block(value: Any) -> str:
    """Return JSON with a line for each row."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return json.dumps(value)
    return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n]"
