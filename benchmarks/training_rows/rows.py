# SPDX-License-Identifier: Apache-2.0
"""Rows of one model, size and number of masks: losses compared, then times in turns and memory."""

from collections.abc import Iterable, Sequence

from gpu_report.model_pair import make_pair
from gpu_report.rows import Row
from gpu_report.whole_model import attempt, free
from inference_rows.turns import OURS, THEIRS, share, take_turns
from training_rows.cases import Case
from training_rows.memory import peak
from training_rows.steps import Steps

PARTS = ("time", "memory")
_Form = tuple[str, str]
"""Who, and in which of `cases.KINDS`."""
_PEER, _PEER_IN_BF16 = (THEIRS, "float32"), (THEIRS, "bfloat16")


def rows_of(cases: Sequence[Case], rounds: int, device: str, parts: Sequence[str] = PARTS) -> dict[str, Row]:
    """Return the rows of cases that share their work, by name.

    Args:
        cases: Differ in their kinds alone.
        rounds: How often each step is timed; fewer times if it takes long.
        device: "cpu" or "cuda".
        parts: What is measured, of PARTS.
    """
    forms: list[_Form] = [_PEER]
    if any(case.kind.endswith("bfloat16") for case in cases):
        forms.append(_PEER_IN_BF16)
    forms += [(OURS, case.kind) for case in cases]
    found, seconds = _compared_and_timed(cases[0], forms, rounds if "time" in parts else 0, device)
    free()
    able = _able(found)
    peaks = {form: peak(cases[0], *form, device) for form in able} if "memory" in parts else {}
    return {case.name: found[OURS, case.kind] | _figures(case, able, seconds, peaks) for case in cases}


def _compared_and_timed(
    case: Case, forms: Iterable[_Form], rounds: int, device: str
) -> tuple[dict[_Form, Row], dict[_Form, dict[str, float]]]:
    """Return how far the losses of each form are from transformers' in float32, and seconds of those that agree."""
    steps = Steps(make_pair(case.model), case, device)
    expected = steps.loss(*_PEER)
    found = {form: attempt(lambda form=form: steps.compare(*form, expected)) for form in forms}
    able = _able(found) if rounds else []
    return found, take_turns({form: steps.step(*form) for form in able}, rounds) if able else {}


def _able(found: dict[_Form, Row]) -> list[_Form]:
    """Return the forms whose losses agree; none if there is none of ours to compare with."""
    able = [form for form, row in found.items() if "error" not in row]
    return able if any(who == OURS for who, _ in able) else []


def _figures(case: Case, able: Iterable[_Form], seconds: dict, peaks: dict) -> Row:
    """Return what was measured of a row, and ours as shares of theirs."""
    shown = {_PEER: THEIRS, (OURS, case.kind): OURS}
    if case.kind.endswith("bfloat16"):
        shown[_PEER_IN_BF16] = f"{THEIRS} in bfloat16"
    if not {_PEER, (OURS, case.kind)} <= set(able):
        return {}
    row: Row = {}
    for name, ratio, measured in (("seconds", "ratio", seconds), ("peak MiB", "memory ratio", peaks)):
        known = {words: measured[form] for form, words in shown.items() if measured.get(form) is not None}
        if {OURS, THEIRS} <= known.keys():
            row[name] = known
            row |= {
                f"{ratio}{words.removeprefix(THEIRS).replace(' in ', ' to theirs in ')}": _share(known[OURS], value)
                for words, value in known.items()
                if words != OURS
            }
    return row


def _share(one: dict[str, float] | float, other: dict[str, float] | float) -> float:
    return share(one, other) if isinstance(one, dict) else round(one / other, 3)
