# SPDX-License-Identifier: Apache-2.0
"""Two linear layers of torch with an activation between them are the oracle."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from unisegment.ops import feed_forward as module
from unisegment.ops.feed_forward import feed_forward
from unisegment.ops.piece_size import PieceSize

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


def make_values(dtype=torch.float64, with_biases=True):
    shapes = [(2, 23, 6), (10, 6), (10,), (6, 10), (6,)]
    values = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    return values if with_biases else [values[0], values[1], None, values[3], None]


def plainly(x, weight1, bias1, weight2, bias2, activation):
    return F.linear(ACTIVATIONS[activation](F.linear(x, weight1, bias1)), weight2, bias2)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(module, "PIECE_LENGTH", PieceSize(cpu=7, accelerator=7))


@pytest.mark.parametrize("with_biases", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_result_and_gradients_are_those_of_linear_layers(activation, with_biases):
    values = make_values(with_biases=with_biases)
    found, expected = feed_forward(*values, activation), plainly(*values, activation)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    learning = [value for value in values if value is not None]
    grad = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, learning, grad), torch.autograd.grad(expected, learning, grad), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_what_does_not_learn_gets_no_gradient():
    values = make_values()
    values[1].requires_grad_(False)
    feed_forward(*values, "relu").sum().backward()
    assert [value.grad is not None for value in values] == [True, False, True, True, True]


def test_under_autocast_gradients_are_summed_up_in_float32():
    values = make_values(torch.float32)
    exact = torch.autograd.grad(plainly(*values, "relu").sum(), values)
    with torch.autocast("cpu", torch.bfloat16):
        found, half = feed_forward(*values, "relu"), plainly(*values, "relu")
    assert found.dtype == half.dtype == torch.bfloat16
    ours, theirs = torch.autograd.grad(found.sum(), values), torch.autograd.grad(half.sum(), values)
    for one, other, expected in zip(ours, theirs, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - expected).abs().mean() <= 1.5 * (other - expected).abs().mean() + 1e-3 * expected.abs().mean()


def test_keeps_the_tokens_and_weights_alone():
    values, kept = make_values(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        feed_forward(*values, "relu")
    assert {tensor.data_ptr() for tensor in kept} == {value.data_ptr() for value in values}


def test_it_can_be_checkpointed():
    values = make_values()
    found = checkpoint(lambda *inner: feed_forward(*inner, "gelu").square(), *values, use_reentrant=False)
    expected = plainly(*values, "gelu").square()
    for one, other in zip(
        torch.autograd.grad(found.sum(), values), torch.autograd.grad(expected.sum(), values), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
