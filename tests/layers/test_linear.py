# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from unisegment.layers.linear import Linear, apply_linear


@pytest.mark.parametrize("with_gradients", [False, True])
def test_equals_the_layer_of_torch(with_gradients):
    layer = nn.Linear(7, 11)
    x, residual = torch.randn(2, 3, 7), torch.randn(2, 3, 11)
    expected = torch.nn.functional.gelu(layer(x)) + residual
    own = Linear(7, 11)
    own.load_state_dict(layer.state_dict())
    with torch.set_grad_enabled(with_gradients):
        torch.testing.assert_close(apply_linear(own, x, "gelu", residual), expected)
        torch.testing.assert_close(apply_linear(layer, x, "gelu", residual), expected)


def test_hooks_are_called():
    layer = Linear(7, 11)
    layer.register_forward_hook(lambda module, inputs, result: result * 0)
    with torch.no_grad():
        assert not apply_linear(layer, torch.randn(3, 7), "relu").any()


def test_what_stands_in_its_place_is_called_before_the_activation():
    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base

        def forward(self, x, *args, **kwargs):
            return self.base(x, *args, **kwargs) - 100

    with torch.no_grad():
        assert not apply_linear(Adapted(Linear(7, 11)), torch.randn(3, 7), "relu").any()
