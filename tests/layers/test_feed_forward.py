# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

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
