# SPDX-License-Identifier: Apache-2.0
import torch

from unisegment.layers.feed_forward import FeedForward


def test_equals_its_formula():
    layer = FeedForward(6, 10, "gelu")
    x = torch.randn(2, 3, 6)
    hidden = torch.nn.functional.gelu(x @ layer.linear1.weight.T + layer.linear1.bias)
    torch.testing.assert_close(layer(x), hidden @ layer.linear2.weight.T + layer.linear2.bias)


def test_weights_start_within_xavier_bounds():
    layer = FeedForward(30, 70)
    assert layer.linear1.weight.abs().max() <= (6 / 100) ** 0.5
    assert layer.linear1.weight.std() > 0.9 * (2 / 100) ** 0.5
