# SPDX-License-Identifier: Apache-2.0
"""What rows are made of."""

import json
import math
from typing import Any

Row = dict[str, Any]


def to_line(row: dict[str, Any]) -> str:
    """Return a row as JSON: numbers with four digits, what is none in words."""
    return json.dumps({key: _plain(value) for key, value in row.items()}, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)
    return value


def failure(error: BaseException) -> str:
    """Return what went wrong, in one line."""
    lines = str(error).strip().splitlines() or ["(no message)"]
    return f"{type(error).__name__}: {lines[0]}"[:300]
