# SPDX-License-Identifier: Apache-2.0
import copy
from dataclasses import replace

import pytest
import torch
from accelerate import PartialState

from tests.training.small_steps import network
from tests.training.tiny_run import breaking_off
from unisegment.losses.criterion import SetCriterion
from unisegment.runs.recipe import load_recipe
from unisegment.runs.settings import RecipeError
from unisegment.structures import SegmentationTarget
from unisegment.training import dry_run, fit, micro_batches
from unisegment.training.assembly import build_model, open_samples
from unisegment.training.forecast import forecast
from unisegment.training.micro_batches import chosen, divided

AUTO = {"optim.micro_batch": "auto", "data.transform.jitter_size": [64, 96], "optim.batch_size": 8}


@pytest.fixture
def parts(recipe):
    torch.manual_seed(0)
    resolved = load_recipe(recipe, AUTO)
    samples, _ = open_samples(resolved.data)
    return resolved, *build_model(resolved, samples), samples


@pytest.fixture
def free(monkeypatch):
    """Return a function that says how much memory is free."""
    return lambda size: monkeypatch.setattr(micro_batches, "free_memory", lambda device: size)


def needed(parts, accumulation):
    recipe, *others = parts
    optim = replace(recipe.optim, micro_batch=None, accumulation=accumulation)
    return forecast(replace(recipe, optim=optim), *others)[0].peak


@pytest.mark.parametrize("accumulation", [1, 2, 8])
def test_the_batch_is_divided_as_little_as_fits(parts, free, monkeypatch, accumulation):
    tried = []

    def counted(recipe, *others):
        tried.append(recipe.optim.accumulation)
        return forecast(recipe, *others)

    monkeypatch.setattr(micro_batches, "forecast", counted)
    enough = needed(parts, accumulation)
    free(int(enough / 0.85) + 1000)
    recipe, reason = chosen(*parts, None)
    assert (recipe.optim.accumulation, recipe.optim.micro_batch) == (accumulation, None)
    begins = f"optim.micro_batch=auto: optim.accumulation={accumulation}: micro-batches of {8 // accumulation} need "
    assert reason.startswith(f"{begins}{enough / 2**20:,.0f} MiB by the forecast, and {enough / 2**20:,.0f} MiB are ")
    assert (f"; micro-batches of {16 // accumulation} need" in reason) == (accumulation == 2)
    assert tried == {1: [1], 2: [1, 2], 8: [1, 8]}[accumulation]  # what is far too much is passed over


def test_what_cannot_be_divided_further_is_refused(parts, free):
    free(2**20)
    message = r"auto: micro-batches of 1 need \d+ MiB by the forecast, but 1 MiB are there .* optim\.micro_batch=1\.$"
    with pytest.raises(RecipeError, match=message):
        chosen(*parts, None)


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_weights_in_parts_have_no_forecast(parts, monkeypatch, variable):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(RecipeError, match=r"not forecast for weights in parts \(FSDP, DeepSpeed\)\. Set a number\."):
        chosen(*parts, None)


def test_a_number_is_images_of_one_process(recipe, monkeypatch):
    resolved = load_recipe(recipe, {"optim.batch_size": 12, "optim.micro_batch": 2})
    assert divided(resolved).optim == replace(resolved.optim, micro_batch=None, accumulation=6)
    monkeypatch.setattr(PartialState(), "num_processes", 3)
    assert divided(resolved).optim.accumulation == 2
    message = (
        r"optim\.batch_size=12 cannot be divided .* optim\.micro_batch=8 on each of 3 processes: .* multiple of 24"
    )
    with pytest.raises(RecipeError, match=message):
        divided(load_recipe(recipe, {"optim.batch_size": 12, "optim.micro_batch": 8}))


def test_the_later_one_of_both_keys_counts(recipe, tmp_path):
    child = tmp_path / "child.yaml"
    child.write_text(f"extends: {recipe}\noptim: {{accumulation: 4}}\n")
    by_size = load_recipe(child, {"optim.micro_batch": 2})
    assert (by_size.optim.accumulation, by_size.optim.micro_batch) == (1, 2)
    assert load_recipe(by_size, {"optim.accumulation": 2}).optim.micro_batch is None
    child.write_text(f"extends: {recipe}\noptim: {{accumulation: 4, micro_batch: auto}}\n")
    with pytest.raises(RecipeError, match=r"optim: either accumulation or micro_batch .* got 4 and auto\. Set one"):
        load_recipe(child)
    with pytest.raises(RecipeError, match=r"optim\.micro_batch must be .*auto.* got 'all'"):
        load_recipe(recipe, {"optim.micro_batch": "all"})


def test_a_run_writes_down_what_was_chosen_and_keeps_to_it(parts, recipe, tmp_path, free, capsys):
    settings = {**AUTO, "schedule.max_steps": 2, "run.checkpoint_every": 1, "evaluation.pictures": 0}
    free(int(needed(parts, 2) / 0.85) + 1000)
    text = dry_run(recipe, **settings)
    assert "\n  accumulation: 2\n  micro_batch: null\n" in text
    assert "\n# note    optim.micro_batch=auto: optim.accumulation=2: micro-batches of 4 need " in text
    with breaking_off(2, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        fit(recipe, **settings)
    assert "optim.micro_batch=auto: optim.accumulation=2: micro-batches of 4 need" in capsys.readouterr().out
    assert load_recipe(tmp_path / "run" / "recipe.yaml").optim.accumulation == 2
    free(2**40)
    fit(recipe, **settings)
    said = capsys.readouterr().out
    assert "optim.micro_batch=auto: optim.accumulation=2, as the run began." in said
    assert "Changed" not in said
    fit(recipe, **settings)
    assert "Changed" not in capsys.readouterr().out


def test_gradients_of_micro_batches_are_those_of_the_batch_in_float64(monkeypatch):
    """Each mask is compared at the same points, whichever micro-batch it is in; images have 2, 0 and 1 segments."""
    draw = torch.rand

    def same_points(masks, points, two, generator=None, device=None):
        return draw(1, points, two, generator=torch.Generator().manual_seed(points)).expand(masks, points, two).clone()

    monkeypatch.setattr(torch, "rand", same_points)
    monkeypatch.setattr(SetCriterion, "draw_seed", lambda _: 3)
    model = network().double().train()
    pixels = torch.randn(3, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    maps = [torch.zeros(64, 96, dtype=torch.int32) for _ in range(3)]
    maps[0][5:40, 7:31], maps[0][45:, 50:], maps[2][3:20, 40:77] = 1, 2, 1
    targets = [
        SegmentationTarget(labels=torch.arange(count) % 2, id_map=id_map, segment_ids=torch.arange(1, count + 1))
        for id_map, count in zip(maps, (2, 0, 1), strict=True)
    ]
    gradients = []
    for parts in ([slice(0, 3)], [slice(0, 1), slice(1, 2), slice(2, 3)]):
        learner = copy.deepcopy(model)
        shares = learner.loss_denominators([targets[part] for part in parts], lambda tensor: tensor, 1)
        for part, share in zip(parts, shares, strict=True):
            learner(pixels[part], mask_labels=targets[part], loss_denominators=share).loss.backward()
        gradients.append({name: weight.grad for name, weight in learner.named_parameters() if weight.grad is not None})
    whole, added = gradients
    assert added.keys() == whole.keys()
    largest = max(value.abs().max() for value in whole.values())
    for name, value in whole.items():
        torch.testing.assert_close(added[name], value, rtol=1e-9, atol=1e-12 * largest.item(), msg=name)
