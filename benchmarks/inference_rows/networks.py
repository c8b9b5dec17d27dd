# SPDX-License-Identifier: Apache-2.0
"""Rows of networks: results compared, then times in turns and memory."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from gpu_report.model_pair import make_images, make_pair
from gpu_report.rows import Row, failure
from inference_rows.cases import TINY, Case
from inference_rows.contenders import compare, disagreement, network_of
from inference_rows.floor import count_products, products_alone
from inference_rows.memory import memory_row, peaks
from inference_rows.turns import FLOOR, OURS, THEIRS, share, take_turns


def rows_of(cases: Sequence[Case], rounds: int, with_memory: bool) -> dict[str, Row]:
    """Return the rows of one network and one size of images, by name."""
    comparison = Comparison(cases[0])
    rows = {case.name: comparison.begin(case.kind) for case in cases}
    able = [case for case in cases if "error" not in rows[case.name]]
    seconds = comparison.times(rounds) if able else {}
    for case in able:
        rows[case.name] |= in_shares(seconds, case.kind)
        if with_memory and case.kind == "float32":
            rows[case.name] |= comparison.memory()
    return rows


class Comparison:
    """Two networks of equal weights, and the calls of them that give the same.

    Args:
        case: Says which network and which images.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._pair = make_pair(case.model)
        self._images = make_images(case.batch_size, (case.side, case.side), torch.device("cpu"))
        ours, theirs = (one.network for one in self._pair)
        self._networks = {OURS: ours, THEIRS: theirs}
        self._wrong = disagreement(self._pair, self._images)
        self._calls: dict[str, Callable[[], Any]] = {THEIRS: network_of(theirs, "float32", self._images)}
        self._expected = self._calls[THEIRS]()
        self._products = count_products(lambda: ours(self._images))

    def begin(self, kind: str) -> Row:
        """Let a form of ours take part, and transformers' in the same weights; return how far they are from float32."""
        if self._wrong:
            return self._wrong
        row = self._join(OURS, kind)
        floor = f"{FLOOR} {dtype_of(kind)}"
        if floor not in self._calls:
            self._calls[floor] = products_alone(self._products, getattr(torch, dtype_of(kind)))
        if kind == "bfloat16":
            row[in_kind(kind)] = self._join(THEIRS, kind)
        return row

    def _join(self, who: str, kind: str) -> Row:
        try:
            call = network_of(self._networks[who], kind, self._images)
            found = compare(call(), self._expected, kind)
        except Exception as error:
            return {"error": failure(error)}
        if "error" not in found:
            self._calls[f"{who} {kind}"] = call
        return found

    def times(self, rounds: int) -> dict[str, dict[str, float]]:
        """Return the seconds of all that take part."""
        return take_turns(self._calls, rounds)

    def memory(self) -> Row:
        """Return the peaks of both in float32, and ours as a share."""
        case = self._case
        found = peaks(self._pair, make_pair(TINY.get(case.model, case.model)), case.batch_size, case.side)
        ours, theirs = (found[one.name] for one in self._pair)
        return memory_row(theirs, ours)


def in_shares(seconds: dict[str, dict[str, float]], kind: str) -> Row:
    """Return the seconds of a row, and ours as shares of them."""
    theirs, ours, floor = (seconds[name] for name in (THEIRS, f"{OURS} {kind}", f"{FLOOR} {dtype_of(kind)}"))
    row: Row = {"seconds": {THEIRS: theirs, OURS: ours, FLOOR: floor}}
    row |= {"ratio": share(ours, theirs), "over floor": share(ours, floor)}
    if kind != "float32" and (same := seconds.get(f"{THEIRS} {kind}")):
        row["seconds"][in_kind(kind)] = same
        row[f"ratio to {in_kind(kind)}"] = share(ours, same)
    return row


def in_kind(kind: str) -> str:
    """Return what transformers' network is called where it is not in float32."""
    return f"{THEIRS} in {kind}"


def dtype_of(kind: str) -> str:
    """Return what the products of a form are computed in."""
    return "bfloat16" if kind == "autocast" or kind.endswith("bfloat16") else "float32"
