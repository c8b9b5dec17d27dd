# SPDX-License-Identifier: Apache-2.0
import weakref

import torch
from torch import nn

from unisegment.ops.remaking import remade


def test_gradients_are_the_same_and_the_recipe_is_used():
    x = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    layer = nn.Linear(7, 4).double()
    made = []

    def double():
        made.append(x.detach())
        return 2 * x

    doubled = 2 * x
    with remade((doubled, double)):
        y = layer(doubled.view(15, 7)).relu() + doubled.sum()  # another view than the one that was named
    found = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    expected = torch.autograd.grad(
        (layer(2 * x.view(15, 7)).relu() + 2 * x.sum()).square().sum(), [x, *layer.parameters()]
    )
    assert len(made) == 1
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_it_is_let_go():
    x = torch.randn(1000, requires_grad=True)
    y = x + 1
    gone = []
    weakref.finalize(y.untyped_storage(), gone.append, True)
    with remade((y, lambda: x + 1)):
        result = y.square()
    del y
    assert gone
    result.sum().backward()
    torch.testing.assert_close(x.grad, 2 * (x.detach() + 1))


def test_number_formats_are_those_of_the_forward_pass():
    x, weight = torch.randn(6, 7), torch.randn(4, 7, requires_grad=True)
    seen = []

    def product():
        made = nn.functional.linear(x, weight)
        seen.append(made.dtype)
        return made

    with torch.autocast("cpu", torch.bfloat16):
        y = product()
        with remade((y, product)):
            z = y.square()
    z.sum().backward()
    assert len(seen) > 1
    assert set(seen) == {torch.bfloat16}


def test_nothing_happens_where_it_is_not_wanted():
    x = torch.randn(6, requires_grad=True)
    y = x + 1
    with remade((y, lambda: 1 / 0), when=False):
        z = y.square()
    z.sum().backward()
    torch.testing.assert_close(x.grad, 2 * (x + 1))
    with torch.no_grad(), remade((y, lambda: 1 / 0)):
        assert not y.square().requires_grad
