# SPDX-License-Identifier: Apache-2.0
import torch

from tests.pretended_device import DEVICE, HOST, Record
from unisegment.ops.transfers import fetch


def test_tensors_of_any_kind_come_together():
    tensors = [
        torch.tensor([True, False, True]), torch.tensor([[2**40, -3]]), torch.rand(3, 5).T, torch.tensor(7.5),
        torch.zeros(0, 4, dtype=torch.bfloat16), torch.rand(2, 1, 3).half(), torch.tensor([9], dtype=torch.int32),
    ]  # fmt: skip
    with Record() as record:
        away = [tensor.to(DEVICE, non_blocking=True) for tensor in tensors]
        here, away[3:3] = tensors[1], [tensors[1], None, "text", away[0]]
        *found, again = fetch(*away, away[0])
        assert sum(record.synchronisations.values()) == 1
    assert found[3] is here
    assert found[4:6] == [None, "text"]
    for value, wanted in zip(
        [*found[:3], *found[6:], again], [*tensors[:3], tensors[0], *tensors[3:], tensors[0]], strict=True
    ):
        assert value.device == HOST
        assert value.dtype == wanted.dtype
        assert torch.equal(value, wanted)


def test_nothing_is_sent_that_is_here():
    values = [torch.rand(3), None, [(2, 3)]]
    assert all(found is value for found, value in zip(fetch(*values), values, strict=True))
    assert fetch() == []
