# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from unisegment.training.ema import WeightAverage


def model():
    torch.manual_seed(3)
    layers = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1))
    layers[2].bias.requires_grad_(False)
    return layers


def learn(layers, average, steps):
    optimizer = torch.optim.SGD([weight for weight in layers.parameters() if weight.requires_grad], lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        layers(torch.randn(2, 3, 4, 7, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()
        average()


def test_it_is_torch_s_average_once_the_decay_is_reached():
    layers = model()
    ours = WeightAverage(layers, decay=0.5)
    ours.steps = 1000  # past the smaller decays of the start
    theirs = AveragedModel(layers, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    theirs.n_averaged += 1  # its first update would copy

    def average():
        ours.update()
        theirs.update_parameters(layers)

    learn(layers, average, 5)
    live = copy.deepcopy(layers.state_dict())
    with ours.applied():
        for name, value in theirs.module.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(layers.state_dict()[name], value)
        assert not torch.equal(layers[0].weight, live["0.weight"])
        assert not torch.equal(layers[1].running_var, live["1.running_var"])
    assert all(torch.equal(layers.state_dict()[name], value) for name, value in live.items())


def test_buffers_that_are_set_are_not_averaged():
    """A probability that training takes to zero is zero in the averaged model as well."""
    layers = model()
    layers.register_buffer("mask_probs", torch.ones(2))
    average = WeightAverage(layers, decay=0.5)
    learn(layers, average.update, 2)
    layers.mask_probs.zero_()
    average.update()
    with average.applied():
        assert layers.mask_probs.tolist() == [0, 0]
        assert layers[1].running_mean.abs().max() > 0


def test_the_start_is_soon_forgotten():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = WeightAverage(layer, decay=0.9999)
    nn.init.ones_(layer.weight)
    expected = 0.0
    for step in range(20):
        average.update()
        expected += (1 - expected) * (1 - (1 + step) / (10 + step))
    with average.applied():
        assert layer.weight.item() == pytest.approx(expected)
    assert expected > 0.99


def test_a_saved_average_goes_on_in_the_same_way():
    layers = model()
    average = WeightAverage(layers, decay=0.7)
    learn(layers, average.update, 3)
    other_layers = copy.deepcopy(layers)
    other = WeightAverage(other_layers, decay=0.7)
    other.load_state_dict(copy.deepcopy(average.state_dict()))
    learn(layers, average.update, 2)
    learn(other_layers, other.update, 2)
    with average.applied(), other.applied():
        for name, value in layers.state_dict().items():
            assert torch.equal(other_layers.state_dict()[name], value)


def test_weights_come_back_after_an_error():
    layers = model()
    average = WeightAverage(layers, decay=0.5)
    learn(layers, average.update, 2)
    live = layers[0].weight.detach().clone()
    with pytest.raises(KeyboardInterrupt), average.applied():
        raise KeyboardInterrupt
    assert torch.equal(layers[0].weight, live)
