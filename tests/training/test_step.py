# SPDX-License-Identifier: Apache-2.0
import math
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from torch import nn

from tests.training.small_steps import batch as images
from tests.training.small_steps import network, trained
from unisegment.models.mask_classification import MaskClassification
from unisegment.training.batches import MicroBatch
from unisegment.training.step import LossOnly, NonFiniteLossError, take_step

SIZES = [(2, 3, 5), (7, 0, 1)]
"""Segments of each image in two micro-batches."""


class StandIn(MaskClassification, nn.Module):
    """Losses that depend on the denominators as those of the model do."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(num_queries=11, no_object_weight=0.1, loss_normalization="global")
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))

    def forward(self, values, class_labels, loss_denominators):
        mask = (self.weight[0] * values).sum() / loss_denominators[0]
        cross_entropy = (self.weight[1] * values).sum() / loss_denominators[1]
        return SimpleNamespace(
            loss=mask + cross_entropy, loss_dict={"loss_mask": mask, "loss_cross_entropy": cross_entropy}
        )


def batch(sizes, factor=1.0):
    labels = [torch.zeros(size, dtype=torch.int64) for size in sizes]
    values = torch.tensor([float(size) for size in sizes]) * factor
    return MicroBatch({"values": values, "class_labels": labels}, [f"{size}.png" for size in sizes])


def prepared(lr=0.125):
    accelerator = Accelerator(cpu=True)
    model = StandIn()
    losses, optimizer = accelerator.prepare(LossOnly(model), torch.optim.SGD(model.parameters(), lr=lr))
    return accelerator, model, losses, optimizer


def take(accelerator, model, losses, optimizer, batches, clip_norm=0.5):
    targets = [micro_batch.inputs["class_labels"] for micro_batch in batches]
    denominators = model.loss_denominators(targets, accelerator.reduce, accelerator.num_processes)
    return take_step(accelerator, losses, optimizer, batches, denominators, clip_norm)


def run(batches, clip_norm=0.0):
    accelerator, model, losses, optimizer = prepared()
    values = take(accelerator, model, losses, optimizer, batches, clip_norm)
    return values, model.weight.detach()


def test_micro_batches_equal_one_batch():
    values, weight = run([batch(sizes) for sizes in SIZES])
    whole_values, whole_weight = run([batch(SIZES[0] + SIZES[1])])
    assert values == pytest.approx(whole_values, rel=1e-6)
    torch.testing.assert_close(weight, whole_weight)
    assert values["loss"] == pytest.approx(2 * 18 / 18 - 18 / 22.8)
    assert values["gradient_norm"] == pytest.approx(math.hypot(1, 18 / 22.8))
    assert weight.tolist() == pytest.approx([2 - 0.125, -1 - 0.125 * 18 / 22.8])


def test_without_denominators_the_losses_of_micro_batches_are_averaged():
    """As of models whose loss is a mean over what a micro-batch holds."""
    accelerator, model, losses, optimizer = prepared()
    model.forward = lambda values, class_labels, loss_denominators: SimpleNamespace(
        loss=(model.weight[0] * values).mean(), loss_dict={"loss_mask": (model.weight[0] * values).mean()}
    )
    values = take_step(accelerator, losses, optimizer, [batch((2, 3)), batch((7, 0, 2))], None, 0.0)
    mean = (5 / 2 + 9 / 3) / 2
    assert values == pytest.approx({"loss": 2 * mean, "loss_mask": 2 * mean, "gradient_norm": mean})
    assert model.weight.tolist() == pytest.approx([2 - 0.125 * mean, -1])


def test_gradients_do_not_outlive_their_step():
    everything = prepared()
    norms = [take(*everything, [batch(SIZES[0])], 0.0)["gradient_norm"] for _ in range(2)]
    assert norms[0] == pytest.approx(norms[1])


def test_the_gradient_is_clipped_as_a_whole():
    values, weight = run([batch(sizes) for sizes in SIZES], clip_norm=0.5)
    norm = math.hypot(1, 18 / 22.8)
    assert values["gradient_norm"] == pytest.approx(norm)
    assert weight.tolist() == pytest.approx([2 - 0.0625 / norm, -1 - 0.0625 * 18 / 22.8 / norm], rel=1e-5)


def test_a_loss_that_is_not_a_number_names_the_images():
    with pytest.raises(NonFiniteLossError, match=r"for the images 7\.png, 0\.png, 1\.png\. "):
        run([batch(SIZES[0]), batch(SIZES[1], factor=math.nan)])


def test_a_micro_batch_that_cannot_be_matched_reports_all_terms_and_is_the_one_that_is_named():
    """All processes add up the same terms, whether or not theirs could be computed."""
    accelerator, model = Accelerator(cpu=True), network()
    losses, optimizer = trained(model)
    good, bad = MicroBatch(images(), ["good.png"]), MicroBatch(images(), ["bad.png"])
    bad.inputs["pixel_values"][:, :, 5, 7] = math.nan
    targets = [good.inputs["mask_labels"], bad.inputs["mask_labels"]]
    denominators = model.loss_denominators(targets, accelerator.reduce, 1)
    found, broken = (losses(micro_batch.inputs, denominators[0]) for micro_batch in (good, bad))
    assert list(broken) == list(found)
    assert all(term.isnan() for term in broken.values())
    with pytest.raises(NonFiniteLossError) as caught:
        take_step(accelerator, losses, optimizer, [good, bad], denominators, 0.01)
    assert caught.value.file_names == ["bad.png"]


@pytest.fixture
def scaled():
    """A step as on a GPU with fp16: gradients are scaled."""
    accelerator, model = Accelerator(cpu=True), StandIn()
    losses = accelerator.prepare(LossOnly(model))
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = AcceleratedOptimizer(torch.optim.SGD(model.parameters(), lr=0.125), scaler=accelerator.scaler)
    accelerator._optimizers.append(optimizer)
    accelerator.native_amp = True
    accelerator.state._mixed_precision = "fp16"
    yield accelerator, model, losses, optimizer
    AcceleratorState._reset_state()


def test_scaled_gradients_take_the_same_step(scaled):
    accelerator, model, losses, optimizer = scaled
    values = take(accelerator, model, losses, optimizer, [batch(SIZES[0])])
    AcceleratorState._reset_state()
    expected_values, expected = run([batch(SIZES[0])], clip_norm=0.5)
    torch.testing.assert_close(model.weight.detach(), expected)
    assert values == pytest.approx(expected_values)


def test_an_overflow_leaves_the_step_out_and_halves_the_scale(scaled):
    accelerator, model, losses, optimizer = scaled
    before = model.weight.detach().clone()
    handle = model.weight.register_hook(lambda gradient: gradient * torch.inf)
    values = take(accelerator, model, losses, optimizer, [batch(SIZES[0])])
    handle.remove()
    assert math.isfinite(values["loss"])
    assert not math.isfinite(values["gradient_norm"])
    assert torch.equal(model.weight, before)
    assert accelerator.scaler.get_scale() == 512
    take(accelerator, model, losses, optimizer, [batch(SIZES[0])])
    assert not torch.equal(model.weight, before)


def test_with_a_scale_a_loss_that_is_not_a_number_is_an_error_too(scaled):
    accelerator, model, losses, optimizer = scaled
    before = model.weight.detach().clone()
    with pytest.raises(NonFiniteLossError):
        take(accelerator, model, losses, optimizer, [batch(SIZES[0], factor=math.nan)])
    assert torch.equal(model.weight, before)
    take(accelerator, model, losses, optimizer, [batch(SIZES[0])])
    assert not torch.equal(model.weight, before)


def test_an_infinite_gradient_of_a_finite_loss_is_an_error():
    accelerator, model, losses, optimizer = prepared()
    before = model.weight.detach().clone()
    model.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NonFiniteLossError, match=r"2\.png, 3\.png, 5\.png"):
        take(accelerator, model, losses, optimizer, [batch(SIZES[0])])
    assert torch.equal(model.weight, before)
