# SPDX-License-Identifier: Apache-2.0
"""Stage: how fast the kernel is, beside transformers, SenseTime's kernel, and the least time that is possible.

Times are medians between CUDA events, with the inputs changing from call to call, more of them than the L2 cache holds,
and with the GPU kept busy before each call until the CPU has prepared it: launches are not measured.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from contenders import (
    ALLOWED_ERROR,
    DTYPES,
    Function,
    Shapes,
    after_points,
    errors_against,
    make_gradient,
    make_inputs,
    ours,
    ours_fused,
    require_gradients,
    theirs,
    truth_of,
)
from gpu_report import rates
from gpu_report.environment import of_the_gpu
from gpu_report.kernel_names import OURS_FUSED, OURS_OF_POINTS, SENSETIME, TRANSFORMERS, TRANSFORMERS_COMPILED
from gpu_report.measure import HEAD_START, milliseconds, peak_mib
from gpu_report.roofline import floor, traffic
from gpu_report.rows import Row, failure
from gpu_report.sensetime import sensetime_function
from gpu_report.settings import Settings
from torch import Tensor

_SECONDS_OF_A_TABLE = 4
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Table:
    """One set of inputs, for all who take them.

    Args:
        size: Of `contenders.SIZES`.
        question: "offsets" or "points".
        dtype: Of `contenders.DTYPES`.
        batch_size: Images.
        compiled: Whether transformers' function is compiled, too.
    """

    size: str
    question: str
    dtype: str
    batch_size: int = 1
    compiled: bool = False

    @property
    def name(self) -> str:
        """What the rows of both directions begin with."""
        return f"{self.size} {self.dtype} b{self.batch_size}"


SMALL = (
    Table("tiny", "offsets", "bfloat16"),
    Table("tiny", "points", "float32"),
    Table("tiny", "offsets", "bfloat16", compiled=True),
)
# In order of worth. The compiled row takes as long as many others.
TABLES = (
    Table("encoder", "offsets", "bfloat16"),
    Table("encoder", "offsets", "float32"),
    Table("encoder", "points", "bfloat16"),
    Table("encoder", "points", "float32"),
    Table("encoder", "offsets", "bfloat16", 16),
    Table("encoder", "offsets", "float16"),
    Table("encoder", "offsets", "float32", 16),
    Table("encoder", "offsets", "bfloat16", 4),
    Table("encoder", "offsets", "float32", 4),
    Table("decoder", "offsets", "bfloat16"),
    Table("decoder", "offsets", "float32"),
    Table("encoder", "offsets", "bfloat16", compiled=True),
)


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rates of this GPU, then a row for each table, direction and contender."""
    found: dict[str, float] = {}
    try:
        found = rates.measured(settings.device, settings.small)
    except (RuntimeError, OSError) as error:
        yield {"what": "rates", "error": failure(error)}
    yield from ({"what": name, "gb_per_s": rate / 1e9} for name, rate in found.items())
    if found:
        yield from rates.questions(found)
    if settings.device == "cuda":  # while it is warm
        yield from of_the_gpu(("clocks.sm", "clocks.mem", "power.draw", "clocks_throttle_reasons.active"))
    sensetime = {}
    if settings.sensetime:
        try:
            sensetime = {SENSETIME: sensetime_function(settings.sensetime)}
        except (RuntimeError, OSError) as error:
            yield {"what": "SenseTime's library", "error": failure(error)}
    tables, ours_ms = SMALL if settings.small else TABLES, {}
    for number, table in enumerate(tables):
        if settings.left() < _SECONDS_OF_A_TABLE and not settings.small:
            names = ", ".join(each.name for each in tables[number:])
            yield {"what": "further tables", "skipped": f"no time is left for {names}"}
            return
        for row in of_table(table, contenders_of(table, sensetime, settings), settings):
            yield row | beside(ours_ms, row) | of_the_floor(table, row, found)


def contenders_of(table: Table, sensetime: dict[str, Function], settings: Settings) -> dict[str, Function]:
    """Return who is compared; the first is ours."""
    if table.compiled:
        backend = "aot_eager" if settings.small else "inductor"
        return {TRANSFORMERS_COMPILED: after_points(torch.compile(theirs, dynamic=False, backend=backend))}
    if table.question == "points":
        return {OURS_OF_POINTS: ours("native"), TRANSFORMERS: theirs, **sensetime}
    peers = {TRANSFORMERS: theirs, **sensetime}
    return {OURS_FUSED: ours_fused("native")} | {name: after_points(peer) for name, peer in peers.items()}


def beside(ours_ms: dict[str, float], row: Row) -> Row:
    """Return how many times our time a peer takes; ours comes first and is kept."""
    if "ms" not in row:
        return {}
    mine = ours_ms.setdefault(row["what"], row["ms"])
    return {} if row["who"].startswith("ours") else {"ratio": row["ms"] / mine}


def of_the_floor(table: Table, row: Row, known_rates: dict[str, float]) -> Row:
    """Return the least time that is possible, beside a time of ours."""
    if "ms" not in row or not known_rates or not row["who"].startswith("ours"):
        return {}
    element, backward = DTYPES[table.dtype].itemsize, "backward" in row["what"]
    bound, least = floor(traffic(table.size, table.question, element, table.batch_size, backward), known_rates)
    return {"floor_ms": least, "bound": bound, "share": least / row["ms"]}


def of_table(table: Table, contenders: dict[str, Function], settings: Settings) -> Iterator[Row]:
    """Yield the rows of one set of inputs; who is out of memory or far from the truth says so in its row."""
    arguments = (table.size, table.question, DTYPES[table.dtype], table.batch_size, settings.device)
    shapes, first = make_inputs(*arguments)
    seeds = range(2, 1 + number_of_sets(first, rates.l2_bytes(settings.device)))
    sets = [first, *(make_inputs(*arguments, seed)[1] for seed in seeds)]
    for inputs in sets:
        require_gradients(inputs)
    gradient = make_gradient(table.size, DTYPES[table.dtype], table.batch_size, settings.device)
    # A second image is computed as the first one.
    truth = truth_of(table.question, shapes, first, gradient) if table.batch_size == 1 else None
    suffix = "" if table.question == "offsets" else ", from points"
    for who, function in contenders.items():
        try:
            measured = measure(function, shapes, sets, gradient, settings)
            wrong = errors_against(truth, function, shapes, first, gradient) if truth is not None else {}
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            yield {"what": f"{table.name}{suffix}", "who": who, "error": failure(error)}
            torch.cuda.empty_cache()
            continue
        for direction, row in measured.items():
            yield {"what": f"{table.name} {direction}{suffix}", "who": who, **row, **_judged(table, wrong, direction)}


def _judged(table: Table, wrong: dict[str, float], direction: str) -> Row:
    if not wrong:
        return {}
    error = wrong["forward error" if direction == "forward" else "gradient error"]
    too_far = not error <= ALLOWED_ERROR[table.dtype]  # which NaN is, too
    return {"relative_error": error} | ({"error": "far from the truth"} if too_far else {})


def number_of_sets(inputs: Inputs, cache_bytes: int) -> int:
    """Return how many sets of inputs are more than twice what the cache holds."""
    return math.floor(2 * cache_bytes / sum(tensor.nbytes for tensor in inputs.values())) + 2


def measure(
    function: Function, shapes: Shapes, sets: Sequence[Inputs], gradient: Tensor, settings: Settings
) -> dict[str, Row]:
    """Return time and peak of memory of one contender in both directions."""

    def forward(inputs: Inputs) -> Tensor:
        return function(shapes, **inputs)

    def backward(prepared: tuple[Inputs, Tensor]) -> None:
        inputs, output = prepared
        leaves = [tensor for tensor in inputs.values() if tensor.requires_grad]
        torch.autograd.grad(output, leaves, gradient.to(output.dtype))

    def with_output(number: int) -> tuple[Inputs, Tensor]:
        inputs = sets[number % len(sets)]
        return inputs, forward(inputs)

    def time_of(run: Callable, prepare: Callable) -> float:
        repeats, seconds = (1, 1.0) if settings.small else (15, _SECONDS_OF_A_TABLE / 4)
        return milliseconds(settings.device, run, repeats, 1 if settings.small else 3, prepare, HEAD_START, seconds)

    with torch.no_grad():
        forward(sets[0])  # what is built at the first call is no memory of it
        forward_peak = peak_mib(settings.device, lambda: forward(sets[0]))
        forward_ms = time_of(forward, lambda number: sets[number % len(sets)])
    backward(with_output(0))
    backward_peak = peak_mib(settings.device, lambda: backward(with_output(0)))
    backward_ms = time_of(backward, with_output)
    return {
        "forward": {"ms": forward_ms, "peak_mib": forward_peak},
        "backward": {"ms": backward_ms, "peak_mib": backward_peak},
    }
