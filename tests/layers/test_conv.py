# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F

from unisegment.layers.conv import ConvNorm


@pytest.mark.parametrize("activation", [True, False])
def test_equals_its_formula_and_keeps_the_size(activation):
    layer = ConvNorm(5, 64, 3, bias=False, activation=activation, initialisation="kaiming")
    x = torch.randn(2, 5, 7, 11)
    expected = F.group_norm(F.conv2d(x, layer.conv.weight, padding=1), 32, layer.norm.weight, layer.norm.bias)
    torch.testing.assert_close(layer(x), expected.relu() if activation else expected)


def test_initial_weights():
    kaiming = ConvNorm(40, 64, 1, bias=False, activation=False, initialisation="kaiming").conv.weight
    assert 0.97 * (3 / 40) ** 0.5 < kaiming.abs().max() <= (3 / 40) ** 0.5
    layer = ConvNorm(40, 64, 1, bias=True, activation=False, initialisation="xavier")
    assert 0.97 * (6 / 104) ** 0.5 < layer.conv.weight.abs().max() <= (6 / 104) ** 0.5
    assert layer.conv.bias.abs().max() == 0
