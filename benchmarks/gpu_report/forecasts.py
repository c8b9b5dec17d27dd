# SPDX-License-Identifier: Apache-2.0
"""What was forecast or aimed at before the first run on a GPU (an H100 or H200), and whether it was met.

Forecasts come from instruction counts and the roofline, aims from what is worth having. Times are of one layer on one
image of 1024x1024: 21,504 queries, 8 heads of 32 channels, 12 samples, from offsets; and of the whole model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpu_report.kernel_names import OURS_FUSED, SENSETIME


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
    who: str = ""
    measure: str = "ms"
    low: float | None = None
    high: float | None = None


def _kernel(name: str, dtype: str, direction: str, low: float | None, high: float | None) -> Forecast:
    return Forecast(name, "kernel_table", f"encoder {dtype} b1 {direction}", OURS_FUSED, "ms", low, high)


def _model(name: str, what: str, who: str, measure: str, low: float | None, high: float | None) -> Forecast:
    return Forecast(name, "whole_model", what, who, measure, low, high)


_STEP = "training R50 1024x1024 b16 bf16"
_PEER = "transformers"

FORECASTS = (
    _kernel("aim: forward, float32", "float32", "forward", None, 0.060),
    _kernel("aim: forward, bfloat16", "bfloat16", "forward", None, 0.040),
    _kernel("aim: backward, float32", "float32", "backward", None, 0.4),
    _kernel("aim: backward, bfloat16", "bfloat16", "backward", None, 0.4),
    _kernel("of the kernel before it staged offsets: forward, float32", "float32", "forward", 0.085, 0.105),
    _kernel("of the kernel before it staged offsets: forward, bfloat16", "bfloat16", "forward", 0.060, 0.080),
    _kernel("backward, float32", "float32", "backward", 0.2, 0.7),
    _kernel("of the kernel before it filled sectors: backward, bfloat16", "bfloat16", "backward", 0.2, 1.4),
    Forecast("SenseTime's forward", "kernel_table", "encoder float32 b1 forward", SENSETIME, "ms", 0.15, 0.25),
    Forecast(
        "loads of 64 bytes in the same half of their lines conflict",
        "kernel_table",
        "gather, same half: rate beside the other pattern",
        measure="share",
        high=0.75,
    ),
    Forecast(
        "reductions are counted by sector, whether it is full or not",
        "kernel_table",
        "reductions, half sectors: rate beside the other pattern",
        measure="share",
        high=0.75,
    ),
    Forecast("aim: sectors of reductions", "counters", "encoder bfloat16 backward", measure="red_sectors", high=33.1e6),
    Forecast("aim: bank conflicts", "counters", "encoder bfloat16 forward", measure="bank_conflicts", high=1e5),
    Forecast(
        "instruction issue bounds the forward",
        "counters",
        "encoder float32 forward",
        measure="issue_slots_percent",
        low=70,
    ),
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
