# SPDX-License-Identifier: Apache-2.0
from unittest.mock import create_autospec

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from tests.pretended_device import DEVICE, HOST, Record, on_device, place, waits
from tests.training.small_steps import SIZES, batch, network, take_steps, trained
from unisegment import UniSegmentImageProcessor
from unisegment.ops import transfers
from unisegment.ops.transfers import fetch, send, send_into


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


@pytest.mark.parametrize(("type", "waits"), [("cuda", False), ("xpu", False), ("mps", True)])
def test_apples_gpus_are_waited_for(type, waits):
    """Their copies read memory that is somebody else's by then: pytorch/pytorch, issue 189690."""
    tensor = create_autospec(torch.Tensor)
    assert send(tensor, torch.device(type)) is tensor.to.return_value
    tensor.to.assert_called_once_with(torch.device(type), non_blocking=not waits)
    place = create_autospec(torch.Tensor, device=torch.device(type))
    send_into(place, tensor)
    place.copy_.assert_called_once_with(tensor, non_blocking=not waits)


def test_what_is_sent_without_waiting_lives_until_the_device_is_waited_for(monkeypatch):
    """In a training step and in all post-processing, where the device is one that copies later than it says."""
    monkeypatch.setattr(transfers, "_WAITED_FOR", (DEVICE.type,))
    accelerator = Accelerator(cpu=True)
    for state in (PartialState, AcceleratorState):
        monkeypatch.setitem(state._shared_state, "device", DEVICE)
    model, inputs = network(), batch()
    with torch.no_grad():
        model.transformer_decoder.predictor.class_head.bias[-1] = -9  # every query finds something
    processor = UniSegmentImageProcessor(stuff_label_ids=[1])
    with Record(), Sources() as sources:
        model.to(DEVICE)
        sources.until_awaited.clear()  # weights are the model's own
        take_steps(accelerator, *trained(model))
        assert sources.count > 0
        with torch.no_grad():
            outputs = model.eval()(send(inputs["pixel_values"], DEVICE))
        for task in ("panoptic", "instance", "semantic"):
            getattr(processor, f"post_process_{task}_segmentation")(outputs, target_sizes=SIZES)


class Sources(TorchDispatchMode):
    """Looks, whenever the device is waited for, whether all that was sent to it without waiting is still there."""

    def __init__(self):
        super().__init__()
        self.until_awaited, self.count = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        made = on_device(result)
        if function is torch.ops.aten._to_copy.default and made and not on_device(args) and kwargs.get("non_blocking"):
            self.until_awaited.append((StorageWeakRef(args[0].untyped_storage()), place()))
            self.count += 1
        if waits(function, args, kwargs, made):
            gone = [where for source, where in self.until_awaited if source.expired()]
            assert not gone, f"freed before it was copied: {gone}"
            self.until_awaited.clear()
        return result
