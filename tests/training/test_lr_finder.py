# SPDX-License-Identifier: Apache-2.0
import math
import re

import pytest
import torch

from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.training import find_lr, lr_finder
from unisegment.training.lr_finder import Point, describe

FAST = {"model.config.decoder_layers": 2, "optim.batch_size": 2}


@pytest.fixture
def ramp(monkeypatch):
    """A ramp of ten steps whose rates and losses are noted."""
    noted, take_step = [], lr_finder.take_step

    def noting(accelerator, losses, optimizer, *arguments):
        rates = sorted({group["lr"] for group in optimizer.param_groups})
        values = take_step(accelerator, losses, optimizer, *arguments)
        noted.append((rates, values["loss"]))
        return values

    monkeypatch.setattr(lr_finder, "_STEPS", 10)
    monkeypatch.setattr(lr_finder, "take_step", noting)
    return noted


def test_rates_rise_by_equal_ratios_and_nothing_is_written(recipe, scenes, tmp_path, ramp, monkeypatch):
    monkeypatch.setattr(lr_finder, "_DIVERGED", math.inf)
    before = sorted(tmp_path.rglob("*"))
    text = find_lr(recipe, **FAST)
    assert sorted(tmp_path.rglob("*")) == before
    highest = [rates[-1] for rates, _ in ramp]
    assert highest == pytest.approx([1e-6 * 10 ** (step * 6 / 9) for step in range(10)])
    assert [rates[0] for rates, _ in ramp] == pytest.approx([rate / 10 for rate in highest])  # of the backbone
    assert text.startswith("10 steps of 2 images, of which nothing is kept.\n\noptim.lr     loss\n 1.0e-06 ")
    # The means of pandas' `ewm(alpha=0.15, adjust=True)`, written out.
    weights = [0.85**age for age in range(10)]
    mean = sum(weight * loss for weight, (_, loss) in zip(weights, ramp[::-1], strict=True)) / sum(weights)
    assert f"\n 1.0e+00 {mean:8.2f}" in text


def test_a_rate_that_is_too_high_ends_it(recipe, scenes, ramp, monkeypatch):
    monkeypatch.setattr(lr_finder, "_LOWEST", 1.0)
    monkeypatch.setattr(lr_finder, "_HIGHEST", 1e6)
    text = find_lr(recipe, **FAST)
    assert len(ramp) < 10
    assert re.search(r"at \d\.\de\+0\d it diverges\.$", text)


def test_a_loss_that_is_no_number_ends_it(recipe, scenes, ramp, monkeypatch):
    forward, calls = UniSegmentForUniversalSegmentation.forward, []

    def spoiled(model, **inputs):
        calls.append(1)
        output = forward(model, **inputs)
        output.loss = output.loss * (math.nan if len(calls) == 3 else 1)
        return output

    monkeypatch.setattr(UniSegmentForUniversalSegmentation, "forward", spoiled)
    text = find_lr(recipe, **FAST)
    assert len(calls) == 3
    assert "3 steps of 2 images" in text
    assert "\n 2.2e-05      inf\n" in text


def test_scenes_that_are_not_there_are_not_drawn(recipe, tmp_path, ramp):
    assert "optim.lr" in find_lr(recipe, **FAST, **{"data.root": str(tmp_path / "new"), "optim.micro_batch": 1})
    assert not (tmp_path / "new").exists()


def test_precision_and_seed_are_the_recipes(recipe, scenes, ramp):
    texts = [find_lr(recipe, **FAST, **{"run.precision": precision}) for precision in ("no", "no", "bf16")]
    assert texts[0] == texts[1] != texts[2]
    assert torch.get_num_threads() == 1  # run.threads of the recipe


@pytest.mark.parametrize(
    ("losses", "end"),
    [
        ([9.0, 8.0, 4.0, 7.0], "optim.lr=1.0e-05, a tenth of where the loss was lowest; at 1.0e-03 it diverges."),
        ([9.0, 8.0, 4.0, 5.0], "optim.lr=1.0e-05, a tenth of where the loss was lowest; no rate was too high."),
        ([9.0, 9.5, 15.0], "No suggestion: the loss never fell, and at 1.0e-04 it diverges."),
        ([9.0], "No suggestion: the loss never fell, and no rate was too high."),
    ],
)  # fmt: skip
def test_a_tenth_of_where_the_loss_is_lowest_is_suggested(losses, end):
    points = [Point(10.0 ** (place - 6), loss) for place, loss in enumerate(losses)]
    text = describe(points, 4)
    assert text.endswith(end)
    rows = text.split("\n\n")[1].splitlines()[1:]
    assert len(rows) == len(losses)
    assert [row for row in rows if row.endswith("lowest")] == [rows[losses.index(min(losses))]]


def test_a_long_ramp_has_a_short_table():
    rows = describe([Point(1e-6 * 1.1**place, abs(place - 57)) for place in range(100)], 4).split("\n\n")[1]
    assert len(rows.splitlines()) == 1 + 12 + 1  # ends, those between, and the lowest
    assert f"{1e-6 * 1.1**57:8.1e}     0.00  lowest" in rows
