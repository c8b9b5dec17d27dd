# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from unisegment.layers import feed_forward
from unisegment.layers.feed_forward import FeedForward, GatedFeedForward


def test_equals_its_formula():
    layer = FeedForward(6, 10, "gelu")
    x = torch.randn(2, 3, 6)
    hidden = torch.nn.functional.gelu(x @ layer.linear1.weight.T + layer.linear1.bias)
    torch.testing.assert_close(layer(x), hidden @ layer.linear2.weight.T + layer.linear2.bias)


@pytest.mark.parametrize("bias", [True, False])
def test_the_gated_one_equals_its_formula(bias):
    layer = GatedFeedForward(6, 10, "silu", bias=bias)
    gate, up, down = layer.gate_proj, layer.up_proj, layer.down_proj
    assert all((part.bias is not None) == bias for part in (gate, up, down))
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(layer(x), down(torch.nn.functional.silu(gate(x)) * up(x)))


def test_can_go_without_biases():
    layer = FeedForward(6, 10, bias=False)
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(layer(x), (x @ layer.linear1.weight.T).relu() @ layer.linear2.weight.T)


def test_weights_start_within_xavier_bounds():
    layer = FeedForward(30, 70)
    assert layer.linear1.weight.abs().max() <= (6 / 100) ** 0.5
    assert layer.linear1.weight.std() > 0.9 * (2 / 100) ** 0.5


@torch.no_grad()
@pytest.mark.parametrize("with_residual", [False, True])
def test_what_graphs_hold_as_one_operator_equals_the_layer(monkeypatch, with_residual):
    monkeypatch.setattr(feed_forward, "_PIECE_LENGTH", 4)
    layer = FeedForward(6, 10, "gelu").eval()
    x, residual = torch.randn(2, 9, 6), torch.randn(2, 9, 6) if with_residual else None
    hidden = torch.nn.functional.gelu(x @ layer.linear1.weight.T + layer.linear1.bias)
    expected = hidden @ layer.linear2.weight.T + layer.linear2.bias + (residual if with_residual else 0)
    weights = (layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias)
    torch.testing.assert_close(torch.ops.unisegment.feed_forward(x, *weights, "gelu", residual), expected)
    torch.testing.assert_close(layer(x, residual), expected)
    torch.library.opcheck(
        torch.ops.unisegment.feed_forward,
        (x.mT.contiguous().mT, *weights, "gelu", residual),
        test_utils=("test_schema", "test_faketensor"),
    )
