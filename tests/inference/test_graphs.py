# SPDX-License-Identifier: Apache-2.0
"""What is recorded when; tests/gpu/test_graphs.py records on a GPU."""

import copy
import pickle

import pytest
import torch
from torch import nn

from unisegment.inference.graphs import MOST_RECORDINGS, RECORDED_AT, GraphedNetwork, Recording


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("scale", torch.ones(1))
        self.calls = 0

    def forward(self, pixel_values, pixel_mask):
        self.calls += 1
        return {"logits": self.conv(pixel_values) * self.scale, "sizes": pixel_mask.sum((1, 2))}


def recorder(model, inputs, pool=None):
    """Do on a CPU what `record` does on a GPU: a replay computes from what lies at the same place, with equal sizes."""
    fixed = {name: tensor.clone() for name, tensor in inputs.items()}
    outputs = model(**fixed)

    def replay():
        calls = model.calls
        for name, tensor in model(**fixed).items():
            outputs[name].copy_(tensor)
        model.calls = calls

    return Recording(fixed, outputs, replay)


def inputs(batch=1, height=6, width=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 3, height, width, generator=generator)
    return {"pixel_values": images, "pixel_mask": (images[:, 0] > 0).long()}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def is_recorded(network, batch):
    """Tell whether a pass of this batch is a replay, and that it gives what the model gives."""
    wanted, calls = network.model(**batch), network.model.calls
    found = network(**batch)
    assert found.keys() == wanted.keys()
    for name in found:
        assert torch.equal(found[name], wanted[name])
    return network.model.calls == calls


def warm(network, batch, count=RECORDED_AT):
    return [is_recorded(network, batch) for _ in range(count)]


def test_a_size_is_replayed_once_it_has_come_often(model):
    network = GraphedNetwork(model, recorder)
    warm(network, inputs())
    assert all(is_recorded(network, inputs(seed=seed)) for seed in range(3))
    assert not is_recorded(network, inputs(height=9, width=6))
    assert not is_recorded(network, inputs(batch=2))
    assert not is_recorded(network, {**inputs(), "pixel_mask": inputs()["pixel_mask"].int()})
    assert is_recorded(network, inputs())


def test_an_output_is_the_callers(model):
    network = GraphedNetwork(model, recorder)
    warm(network, inputs())
    first = network(**inputs(seed=1))
    kept = copy.deepcopy(first)
    network(**inputs(seed=2))
    assert torch.equal(first["logits"], kept["logits"])


def test_weights_may_change_in_place_and_are_found_where_they_went(model):
    network = GraphedNetwork(model, recorder)
    warm(network, inputs())
    model.conv.weight.mul_(2)
    assert is_recorded(network, inputs())
    model.conv.weight = nn.Parameter(model.conv.weight * 3)
    assert not is_recorded(network, inputs())
    warm(network, inputs())
    model.scale.fill_(5)  # of which a pass may take a decision
    assert not is_recorded(network, inputs())


def test_hooks_run(model):
    network, seen = GraphedNetwork(model, recorder), []
    warm(network, inputs())
    handle = model.conv.register_forward_hook(lambda *_: seen.append(1))
    for _ in range(5):
        assert not is_recorded(network, inputs())
    assert len(seen) == 10
    handle.remove()
    assert warm(network, inputs(), RECORDED_AT + 1)[-1]


def test_gradients_flow(model):
    network = GraphedNetwork(model, recorder)
    warm(network, inputs())
    with torch.enable_grad():
        assert network(**inputs())["logits"].requires_grad


def test_large_batches_and_too_many_sizes_are_computed_as_ever(model, monkeypatch):
    monkeypatch.setattr("unisegment.inference.graphs.MOST_PIXELS", 2 * 6 * 9)
    network = GraphedNetwork(model, recorder)
    assert not any(warm(network, inputs(batch=3), 5))
    for width in range(1, MOST_RECORDINGS + 1):
        warm(network, inputs(width=width, height=2))
    assert is_recorded(network, inputs(width=1, height=2))
    assert not any(warm(network, inputs(width=7, height=7), 5))


def test_what_cannot_be_recorded_is_computed_and_said_once(model, caplog):
    def fails(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    network = GraphedNetwork(model, fails)
    assert not any(warm(network, inputs(), 6))
    assert not any(warm(network, inputs(batch=2), 6))
    assert len(caplog.messages) == 1
    assert "launched one by one: operation not permitted when stream is capturing." in caplog.messages[0]


def test_what_replays_something_else_is_not_used(model, caplog):
    def forgets_the_mask(model, inputs, pool=None):
        recording = recorder(model, inputs)
        return Recording(recording.inputs, {**recording.outputs, "sizes": torch.zeros(1)}, recording.replay)

    network = GraphedNetwork(model, forgets_the_mask)
    assert not any(warm(network, inputs(), 6))
    assert [message.partition(": ")[2] for message in caplog.messages] == ["A replay gives other results."]


def test_on_a_cpu_it_is_the_model(model):
    network = GraphedNetwork(model)
    assert not any(warm(network, inputs(), 5))
    assert not network._passes


def test_it_is_copied_and_pickled_without_recordings(model):
    network = GraphedNetwork(model)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(**inputs())["logits"], network(**inputs())["logits"])
