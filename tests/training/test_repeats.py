# SPDX-License-Identifier: Apache-2.0
"""Factors are those of the paper's formula, written out; labels are looked at once, and then known to the state."""

import math
import os
from fractions import Fraction

import numpy as np
import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file

from tests.training.tiny_run import breaking_off, log_of
from tests.two_processes import run_in_two_processes
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.settings import RecipeError
from unisegment.training import assembly, fit, repeats
from unisegment.training.batches import BatchPlan
from unisegment.training.repeats import all_labels, describe_repeats, find_repeats, repeat_factors
from unisegment.training.state_files import Repeats


class Labelled(AnnotatedImages):
    """Images whose labels are known, or that cannot be read."""

    def __init__(self, *labels):
        super().__init__([])
        self.labels, self.asked = labels, []

    def __len__(self):
        return len(self.labels)

    def labels_in(self, index):
        self.asked.append(index)
        if self.labels[index] is None:
            raise ValueError(f"{index}.png is torn")
        return self.labels[index]


def naive(labels, threshold):
    factors = []
    for found in labels:
        factor = 1.0
        for label in found:
            share = Fraction(sum(label in other for other in labels), len(labels))
            factor = max(factor, math.sqrt(Fraction(threshold) / share))
        factors.append(factor)
    return factors


@pytest.mark.parametrize("threshold", [0.001, 0.05, 0.4, 1.0])
def test_an_image_comes_as_often_as_its_rarest_class_asks_for(threshold):
    generator = np.random.default_rng(5)
    shares = np.array([0.9, 0.5, 0.2, 0.03, 0.01])
    labels = [{*np.flatnonzero(generator.random(5) < shares).tolist()} for _ in range(307)]
    assert not all(labels)
    factors = repeat_factors(labels, threshold)
    np.testing.assert_allclose(factors, naive(labels, threshold), rtol=1e-15)
    assert (factors.max() > 1) == (threshold > 0.001)


def test_factors_worked_out_by_hand():
    labels = [{0}, {0, 1}, {0}, set(), {0}, {0}, {0}, {0}, {0}]
    # One image in nine has the class 1, eight have the class 0: the square root of 1 / (1 / 9), and of 1 / (8 / 9).
    assert repeat_factors(labels, 1.0).tolist() == pytest.approx([1.125**0.5, 3, 1.125**0.5, 1, *[1.125**0.5] * 5])
    assert repeat_factors(labels, 4 / 9).tolist() == pytest.approx([1, 2, *[1] * 7])


def labels_in_one_of_two(rank):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    PartialState._reset_state()
    PartialState(cpu=True)
    images = Labelled({0}, {1}, set(), {0, 1}, {2})
    return all_labels(images, may_be_unreadable=False), images.asked


def test_every_process_looks_at_its_share_and_knows_all(tmp_path):
    (first, looked_at), (second, others) = run_in_two_processes(labels_in_one_of_two, tmp_path)
    assert first == second == [{0}, {1}, set(), {0, 1}, {2}]
    assert (looked_at, others) == ([0, 1, 2], [3, 4])


DATA = DataRecipe(root="data", format="coco_instance", repeat_threshold=0.5)
LABELS = [{0}, {0, 1}, {0}, {0}, {0}, {0}, {0}, {0}]


def test_all_images_are_looked_at_in_their_order():
    images = Labelled(*LABELS)
    repeats = find_repeats(DATA, images, None)
    assert images.asked == [*range(8)]
    assert repeats.factors.tolist() == pytest.approx([1, 2, *[1] * 6])
    assert describe_repeats(repeats) == (
        "data.repeat_threshold=0.5: 1 of 8 images have a rare class and come up to 2 times in an epoch, which has 9 "
        "images."
    )


def test_without_a_threshold_no_image_is_looked_at():
    images = Labelled(None)
    assert find_repeats(DataRecipe(root="data"), images, None) is None
    assert images.asked == []


def test_an_image_that_cannot_be_read_has_no_labels_where_it_may_be_left_out():
    images = Labelled(None, *LABELS)
    with pytest.raises(RecipeError, match=r"data\.root=data, data\.format=coco_instance: 0\.png is torn"):
        find_repeats(DATA, images, None)
    skipping = DataRecipe(root="data", format="coco_instance", repeat_threshold=0.5, on_error="skip")
    assert find_repeats(skipping, images, None).factors.tolist() == pytest.approx([1, 1, 4.5**0.5, *[1] * 6])


MIXING = {
    "schedule.max_steps": 3,
    "run.checkpoint_every": 2,
    "optim.batch_size": 2,
    "data.repeat_threshold": 0.9,
    "data.transform.jitter_size": [64, 96],
    "data.transform.copy_paste_prob": 0.5,
    "data.transform.mosaic_prob": 0.5,
}


def test_a_run_that_breaks_off_knows_its_images_and_ends_like_one_that_does_not(recipe, tmp_path, monkeypatch, capsys):
    fit(recipe, **MIXING, **{"run.output_dir": str(tmp_path / "unbroken")})
    assert "of 8 images have a rare class and come up to" in capsys.readouterr().out
    with breaking_off(3, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        fit(recipe, **MIXING)
    saved = load_file(tmp_path / "run" / "checkpoints" / "step-000002" / "repeats.safetensors")
    assert saved["threshold"].item() == 0.9
    assert saved["factors"].dtype == torch.float64
    assert 1 < saved["factors"].max() < 8**0.5
    seen = []
    monkeypatch.setattr(repeats, "all_labels", lambda *_: pytest.fail("the state knows them"))
    monkeypatch.setattr(assembly, "BatchPlan", lambda **kinds: seen.append(kinds) or BatchPlan(**kinds))
    fit(recipe, **MIXING, **{"data.workers": 1})
    np.testing.assert_array_equal(seen[-1]["repeat_factors"], saved["factors"])
    assert log_of(tmp_path / "run") == log_of(tmp_path / "unbroken")


@pytest.mark.parametrize("change", [{"threshold": 0.25}, {"factors": np.ones(7)}])
def test_what_the_state_knows_of_other_images_or_another_threshold_does_not_count(monkeypatch, change):
    saved = Repeats(**{"threshold": 0.5, "factors": np.full(8, 1.5)} | change)
    monkeypatch.setattr("unisegment.training.repeats.read_repeats", lambda state: saved)
    images = Labelled(*LABELS)
    assert find_repeats(DATA, images, None).factors.tolist() == pytest.approx([1, 2, *[1] * 6])
    assert images.asked == [*range(8)]
