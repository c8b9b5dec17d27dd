# SPDX-License-Identifier: Apache-2.0
"""Inputs for the kernels of ms_deform_attn, what they must give, and how closely."""

import torch

from unisegment.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_fused

# Of the values, and of points and weights.
TYPES = [
    (torch.float32, torch.float32),
    (torch.float16, torch.float16),
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.float64, torch.float64),
]
SHAPES = [(7, 11), (3, 5), (1, 2)]
NUM_PIXELS = 94
# What rounding to 16 bits does to a number, relative to it: half a unit in the last place.
ROUNDING = {torch.float16: 2**-11, torch.bfloat16: 2**-8}
# Sums in float32, relative to the largest number of a result.
PRECISION = 1e-5


def name_of(types):
    return "-".join(str(dtype).removeprefix("torch.") for dtype in types)


def inputs(types, fused, head_dim=32, num_heads=3, shapes=SHAPES, num_points=4, num_queries=13, batch_size=2):
    """Return value, shapes, [reference points], points and weights as the operators take them; some lie outside."""
    value_type, parameter_type = types
    value = torch.randn(batch_size, sum(h * w for h, w in shapes), num_heads, head_dim).to(value_type)
    samples = (batch_size, num_queries, num_heads, len(shapes), num_points)
    weights = torch.randn(samples).to(parameter_type)
    if not fused:
        return value, shapes, (torch.rand(*samples, 2) * 1.4 - 0.2).to(parameter_type), weights
    reference_type = torch.promote_types(value_type, torch.float32)
    reference_points = torch.rand(batch_size, num_queries, len(shapes), 2, dtype=reference_type)
    return value, shapes, reference_points, (3 * torch.randn(*samples, 2)).to(parameter_type), weights


def random_grad_output(arguments):
    value, points = arguments[0], arguments[-2]
    batch_size, num_queries, num_heads = points.shape[:3]
    return torch.randn(batch_size, num_queries, num_heads * value.shape[3]).to(value.dtype)


def expected(arguments, grad_output):
    """Return the output, and the gradients of value, points and weights, of the reference in float64."""
    value, shapes, *parameters = arguments
    leaves = [tensor.to(torch.float64, copy=True).requires_grad_() for tensor in (value, *parameters)]
    function = ms_deform_attn_fused if len(parameters) == 3 else ms_deform_attn
    output = function(leaves[0], shapes, *leaves[1:], backend="torch")
    output.backward(grad_output.double())
    return output.detach(), [leaf.grad for leaf in (leaves[0], *leaves[-2:])]


def assert_close(actual, wanted, dtype=torch.float32):
    """Compare with float64, for a result that was rounded to `dtype` after it had been computed."""
    atol = PRECISION * wanted.abs().max().item() + 1e-30
    torch.testing.assert_close(actual.double(), wanted, rtol=ROUNDING.get(dtype, 0), atol=atol)
