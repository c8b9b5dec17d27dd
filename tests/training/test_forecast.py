# SPDX-License-Identifier: Apache-2.0
"""What is asked of `step_memory`; what that gives is compared with the allocator in test_memory.py."""

from dataclasses import replace

import pytest
import torch

from unisegment.runs.recipe import load_recipe
from unisegment.training import forecast as forecast_module
from unisegment.training.assembly import build_model, open_samples
from unisegment.training.forecast import forecast


@pytest.fixture
def parts(recipe):
    torch.manual_seed(0)
    resolved = load_recipe(recipe, {"data.transform.jitter_size": [64, 96]})
    samples, _ = open_samples(resolved.data)
    return resolved, *build_model(resolved, samples), samples


def test_it_is_for_the_micro_batches_of_the_recipe(parts):
    recipe, *others = parts
    found = {}
    for accumulation in (1, 4):
        optim = replace(recipe.optim, accumulation=accumulation, ema_decay=0.5)
        found[accumulation], shape = forecast(replace(recipe, optim=optim), *others)
        assert shape == (4 // accumulation, 3, 64, 96)
    whole, part = found[1], found[4]
    assert part.average == whole.average == whole.gradients > 0
    assert 2 * part.activations < whole.activations < 5 * part.activations


def test_processes_hold_what_they_exchange(parts, monkeypatch):
    alone, _ = forecast(*parts)
    monkeypatch.setattr(forecast_module.PartialState(), "num_processes", 2)
    of_two, (count, *_) = forecast(*parts)
    assert count == 2
    assert of_two.messages == alone.gradients
    assert of_two.peak - of_two.messages < alone.peak  # of half the images
