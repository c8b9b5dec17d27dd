# SPDX-License-Identifier: Apache-2.0
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from unisegment.ops.constants import cached_constant


def make_counter():
    calls = []

    @cached_constant
    def count(length, device=None, dtype=torch.float32):
        """Count."""
        calls.append(length)
        return torch.arange(length, device=device, dtype=dtype)

    return count, calls


def test_is_made_once_for_equal_arguments():
    count, calls = make_counter()
    assert count(3) is count(3)
    assert count(3, None, torch.float64).dtype == torch.float64
    assert count(4).tolist() == [0, 1, 2, 3]
    assert calls == [3, 3, 4]
    assert count.__doc__ == "Count."


def test_keeps_no_more_than_a_few():
    count, calls = make_counter()
    for length in range(100):
        count(length)
    count(99)
    count(0)
    assert calls == [*range(100), 0]


def test_is_of_use_for_gradients_when_it_was_made_without():
    count, _ = make_counter()
    with torch.inference_mode():
        count(3)
    weight = torch.ones(3, requires_grad=True)
    (weight * count(3)).sum().backward()
    assert weight.grad.tolist() == [0, 1, 2]


def test_nothing_without_contents_is_kept():
    count, calls = make_counter()
    with FakeTensorMode():
        assert isinstance(count(3), FakeTensor)
    assert count(3, torch.device("meta")).device.type == "meta"
    assert not isinstance(count(3), FakeTensor)
    program = torch.export.export(_Sum(count), (torch.ones(3),))
    assert program.module()(torch.ones(3)).tolist() == [1, 2, 3]
    assert calls == [3, 3, 3, *[3] * (len(calls) - 3)]
    assert len(calls) >= 4


class _Sum(torch.nn.Module):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, x):
        return x + self.count(3)
