# SPDX-License-Identifier: Apache-2.0
"""Lines of numbers in, a file of JSON lines out, which is cut back to a step when training goes on from there."""

import json
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from unisegment.files import WriteError, write_text


def read_lines(log: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file, without the half line that a crash may have left."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def cut_log(log: Path, step: int) -> None:
    """Remove the lines of later steps and half a line."""
    if log.exists():
        kept = [json.dumps(line) for line in read_lines(log) if line["step"] <= step]
        write_text(log, "".join(f"{line}\n" for line in kept))


class LogFile:
    """A file that gets one JSON line after the other, each of them on its way to the disk at once.

    Args:
        path: Is appended to; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = None if path is None else path.open("a", encoding="utf-8", buffering=1)

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
