# SPDX-License-Identifier: Apache-2.0
"""How often the CPU waits for a GPU, counted by torch; tests/training/test_on_a_device.py counts it without a GPU."""

import warnings
from contextlib import contextmanager

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import send_to_device

from tests.training.small_steps import PREDICTIONS, SIZES, batch, network, take_steps, trained
from unisegment import UniSegmentImageProcessor

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@contextmanager
def waits():
    """Within `with`, collect what torch says of each operation that waits for the GPU."""
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found += [f"{item.filename}:{item.lineno}" for item in caught if "synchronizing CUDA" in str(item.message)]


def test_what_waits_is_seen():
    with waits() as found:
        torch.ones(3, device="cuda").sum().item()
    assert len(found) == 1


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_training_step_waits_at_most_four_times(precision):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator, model = Accelerator(mixed_precision=precision), network().cuda()
    losses, optimizer = trained(model)
    take_steps(accelerator, losses, optimizer)  # libraries start
    with waits() as found:
        take_steps(accelerator, losses, optimizer)
    AcceleratorState._reset_state(reset_partial_state=True)
    assert len(found) <= 4, found


@pytest.mark.parametrize(("task", "rules", "most"), PREDICTIONS)
def test_a_batch_of_predictions_waits_as_often_as_it_should(task, rules, most):
    model, processor, inputs = network().eval().cuda(), UniSegmentImageProcessor(stuff_label_ids=[1]), batch()
    torch.nn.init.constant_(model.transformer_decoder.predictor.class_head.bias[-1], -9)
    images = {name: inputs[name] for name in ("pixel_values", "pixel_mask")}
    with torch.no_grad():
        for _ in range(2):
            with waits() as found:
                outputs = model(**send_to_device(images, "cuda", non_blocking=True))
                getattr(processor, task)(outputs, target_sizes=SIZES, **rules)
    assert len(found) <= most, found
