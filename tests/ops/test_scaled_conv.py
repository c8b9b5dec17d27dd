# SPDX-License-Identifier: Apache-2.0
"""A convolution, a product and sums of torch are the oracle."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from unisegment.ops.scaled_conv import scaled_conv2d

PLACES = ((2, 1), (1, 2), (1, 1), 2)


def make_values(dtype=torch.float64):
    x, weight = torch.randn(2, 6, 9, 13, dtype=dtype), torch.randn(8, 3, 3, 3, dtype=dtype)
    scale, shift = torch.rand(8, dtype=dtype) + 0.5, torch.randn(8, dtype=dtype)
    return x.requires_grad_(), weight.requires_grad_(), scale, shift


def plainly(x, weight, scale, shift, activation, residual):
    y = F.conv2d(x, weight, None, *PLACES) * scale[:, None, None] + shift[:, None, None]
    y = y if residual is None else y + residual
    return y.relu() if activation else y


@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_result_and_gradients_are_those_of_the_steps(with_residual, activation, dtype, memory_format):
    x, weight, scale, shift = make_values(dtype)
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    residual = torch.randn(2, 8, 5, 15, dtype=dtype, requires_grad=True) if with_residual else None
    before = None if residual is None else residual.detach().clone()
    found = scaled_conv2d(x, weight, scale, shift, PLACES, activation, residual)
    expected = plainly(x, weight, scale, shift, activation, residual)
    tolerance = {"rtol": 1e-11, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found, expected, **tolerance)
    learning = [value for value in (x, weight, residual) if value is not None]
    grad = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, learning, grad), torch.autograd.grad(expected, learning, grad), strict=True
    ):
        torch.testing.assert_close(one, other, **tolerance)
    if residual is not None:
        assert torch.equal(residual, before)


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_does_not_learn_gets_no_gradient(frozen):
    values = make_values()
    values[frozen].requires_grad_(False)
    scaled_conv2d(*values, PLACES, "relu").sum().backward()
    assert [value.grad is not None for value in values] == [frozen != 0, frozen != 1, False, False]


def test_under_autocast_the_weight_is_scaled_in_float32():
    x, weight, scale, shift = make_values(torch.float32)
    expected = F.conv2d(x.bfloat16(), (weight * scale[:, None, None, None]).bfloat16(), shift.bfloat16(), *PLACES)
    with torch.autocast("cpu", torch.bfloat16):
        found = scaled_conv2d(x, weight, scale, shift, PLACES)
    torch.testing.assert_close(found, expected)
    found.float().sum().backward()
    assert weight.grad.dtype == x.grad.dtype == torch.float32


def test_it_can_be_checkpointed():
    x, weight, scale, shift = make_values()
    found = checkpoint(
        lambda x: scaled_conv2d(x, weight, scale, shift, PLACES, "relu").square(), x, use_reentrant=False
    )
    expected = plainly(x, weight, scale, shift, "relu", None).square()
    for one, other in zip(
        torch.autograd.grad(found.sum(), [x, weight]), torch.autograd.grad(expected.sum(), [x, weight]), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_what_is_no_number_stays_so_behind_the_activation():
    x, weight, scale, shift = make_values(torch.float32)
    with torch.no_grad():
        x[0, 0, 4, 6] = torch.nan
    found, expected = (function(x, weight, scale, shift, *more) for function, more in (
        (scaled_conv2d, (PLACES, "relu")), (plainly, ("relu", None))
    ))  # fmt: skip
    assert torch.equal(found.isnan(), expected.isnan())
    assert found.isnan().any()
