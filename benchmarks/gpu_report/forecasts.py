# SPDX-License-Identifier: Apache-2.0
"""What was forecast or aimed at before the first run on a GPU (an H100 or H200), and whether it was met.

Forecasts come from instruction counts and the roofline, aims from what is worth having. Times are of one layer on one
image of 1024x1024: 21,504 queries, 8 heads of 32 channels, 12 samples, from offsets; and of the whole model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Forecast:
    """A number that a row is expected to have.

    Args:
        name: In words.
        stage, what, who: Which row.
        measure: Which of its numbers.
        low, high: The borders, both included; None where there is none.
    """

    name: str
    stage: str
    what: str
    who: str
    measure: str
    low: float | None = None
    high: float | None = None


_KERNEL = ("kernel_table", "encoder {} b1 {}", "ours, fused", "ms")


def _kernel(name: str, dtype: str, direction: str, low: float | None, high: float | None) -> Forecast:
    stage, what, who, measure = _KERNEL
    return Forecast(name, stage, what.format(dtype, direction), who, measure, low, high)


def _model(name: str, what: str, who: str, measure: str, low: float | None, high: float | None) -> Forecast:
    return Forecast(name, "whole_model", what, who, measure, low, high)


_STEP = "training R50 1024x1024 b16 bf16"
_PEER = "transformers"

FORECASTS = (
    _kernel("aim: forward, float32", "float32", "forward", None, 0.060),
    _kernel("aim: forward, bfloat16", "bfloat16", "forward", None, 0.040),
    _kernel("aim: backward, float32", "float32", "backward", None, 0.4),
    _kernel("aim: backward, bfloat16", "bfloat16", "backward", None, 0.4),
    _kernel("forecast before staged offsets: forward, float32", "float32", "forward", 0.085, 0.105),
    _kernel("forecast before staged offsets: forward, bfloat16", "bfloat16", "forward", 0.060, 0.080),
    _kernel("forecast: backward, float32", "float32", "backward", 0.2, 0.7),
    _kernel("forecast: backward, bfloat16", "bfloat16", "backward", 0.2, 1.4),
    _model("aim: inference against transformers", "R50 1024x1024 b16 bf16", _PEER, "ratio", 2, None),
    _model("aim: its memory", "R50 1024x1024 b16 bf16", _PEER, "memory_ratio", None, 0.5),
    _model("aim: training against transformers", _STEP, _PEER, "ratio", 2, None),
    _model("aim: its memory", _STEP, _PEER, "memory_ratio", None, 0.5),
    _model("forecast: step, pixel decoder in float32", f"{_STEP} decoder float32", "ours", "ms", 400, 450),
    _model("forecast: step, pixel decoder in TF32", f"{_STEP} decoder tf32", "ours", "ms", 235, 285),
    _model("forecast: step, pixel decoder in bfloat16", _STEP, "ours", "ms", 225, 275),
)


def compare(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was measured beside each forecast; `held` is None where it was not measured."""
    return [_judged(forecast, rows) for forecast in FORECASTS]


def _judged(forecast: Forecast, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    wanted = (forecast.stage, forecast.what, forecast.who)
    of_row = (row.get(forecast.measure) for row in rows if _key(row) == wanted)
    measured = next((value for value in of_row if isinstance(value, int | float)), None)
    low, high = forecast.low, forecast.high
    held = None
    if measured is not None:
        held = (low is None or measured >= low) and (high is None or measured <= high)
    return {
        "name": forecast.name,
        "measure": forecast.measure,
        "low": low,
        "high": high,
        "measured": measured,
        "held": held,
    }


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row.get("stage", "").partition(":")[0], row.get("what", ""), row.get("who", "")
