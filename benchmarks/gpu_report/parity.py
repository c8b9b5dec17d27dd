# SPDX-License-Identifier: Apache-2.0
"""Stage: the kernel gives what plain PyTorch gives in float64, in all types, forward and backward."""

from collections.abc import Iterator

import torch
from cases import NUM_PIXELS, PRECISION, ROUNDING, TYPES, expected, inputs, name_of, random_grad_output
from gpu_report.rows import Row, failure
from gpu_report.settings import Settings
from torch import Tensor

from unisegment.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_fused

_HEAD_DIMS = (32, 8, 40, 64)


def rows(settings: Settings) -> Iterator[Row]:
    """Yield a row for each pair of types and form: the largest error, as a share of what is allowed."""
    torch.manual_seed(0)
    head_dims, queries = (_HEAD_DIMS[:2], (13,)) if settings.small else (_HEAD_DIMS, (13, NUM_PIXELS))
    for types in TYPES:
        for fused in (True, False):
            what = f"{name_of(types)}, {'from offsets' if fused else 'from points'}"
            if settings.device == "cpu" and types[0] == torch.float16:
                yield {"what": what, "skipped": "there is none on the CPU"}
                continue
            cases = [(head_dim, count) for head_dim in head_dims for count in queries]
            try:
                found = {case: worst(types, fused, *case, settings.device) for case in cases}
            except (RuntimeError, TypeError, ValueError) as error:
                yield {"what": what, "error": failure(error)}
                continue
            case = max(found, key=lambda each: found[each])
            row = {"what": what, "cases": len(cases), "share_of_allowed_error": found[case]}
            wrong = not found[case] <= 1  # which is so for NaN, too
            yield row | ({"error": f"wrong with width {case[0]} and {case[1]} queries"} if wrong else {})


def worst(types: tuple[torch.dtype, torch.dtype], fused: bool, head_dim: int, num_queries: int, device: str) -> float:
    """Return the largest error of the output and of all gradients, as a share of what is allowed."""
    arguments = inputs(types, fused, head_dim, num_queries=num_queries)
    grad_output = random_grad_output(arguments)
    output, gradients = expected(arguments, grad_output)
    value, shapes, *parameters = arguments
    leaves = [tensor.to(device).requires_grad_() for tensor in (value, *parameters)]
    function = ms_deform_attn_fused if fused else ms_deform_attn
    found = function(leaves[0], shapes, *leaves[1:], backend="native")
    found.backward(grad_output.to(device))
    pairs = [(found.detach(), output), *zip((leaf.grad for leaf in (leaves[0], *leaves[-2:])), gradients, strict=True)]
    return max(share_of_allowed(actual.cpu(), wanted) for actual, wanted in pairs)


def share_of_allowed(actual: Tensor, wanted: Tensor) -> float:
    """Return the largest error beside what cases.py allows: sums in float32, then one rounding."""
    allowed = PRECISION * wanted.abs().max() + 1e-30 + ROUNDING.get(actual.dtype, 0) * wanted.abs()
    shares = (actual.double() - wanted).abs() / allowed
    return shares.max().item() if shares.isfinite().all() else float("inf")
