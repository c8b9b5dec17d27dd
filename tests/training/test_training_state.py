# SPDX-License-Identifier: Apache-2.0
"""What is saved is taken over bit for bit, from the files of today and from those of release 0.1."""

import json

import numpy as np
import pytest
import torch

from tests.training.tiny_run import log_of, scores_of
from tests.training.tiny_state import make_old, tiny_training
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.training import fit
from unisegment.training.state_files import Repeats, read_repeats


def tensors_of(training):
    moments = training.optimizer.state_dict()["state"]
    named = {f"{number}.{name}": tensor for number, own in moments.items() for name, tensor in own.items()}
    average = {} if training.average is None else training.average.state_dict()["average"]
    return training.losses.state_dict() | named | {f"average.{name}": tensor for name, tensor in average.items()}


@pytest.mark.parametrize("is_old", [False, True], ids=["today's", "of 0.1"])
@pytest.mark.parametrize("decay", [0, 0.9])
def test_everything_is_taken_over(tmp_path, decay, is_old):
    training, other = tiny_training(step=3, decay=decay), tiny_training(decay=decay, seed=1)
    training.unreadable.problems = ["ä.png: cut off"]
    training.progress.seconds, training.progress.overflows = 0.1 + 0.2, 2
    state = tmp_path / "step-000003"
    state.mkdir()
    training.save(state)
    if is_old:
        make_old(state)
    other.load(state)
    expected, found = tensors_of(training), tensors_of(other)
    assert found.keys() == expected.keys()
    assert len(found) == (10 if decay else 8)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert (other.progress, other.unreadable.problems) == (training.progress, training.unreadable.problems)
    assert decay == 0 or other.average.steps == training.average.steps == 3


def test_the_files_hold_no_pickle_but_that_of_the_moments(tmp_path):
    state = tmp_path / "step-000001"
    state.mkdir()
    tiny_training(step=1).save(state)
    assert sorted(path.name for path in state.iterdir()) == [
        *("average.safetensors", "model.safetensors", "optimizer.bin", "progress.json")
    ]
    numbers = json.loads((state / "progress.json").read_text())
    assert numbers == {
        "progress": {"step": 1, "seconds": 0.0, "non_finite": 0, "overflows": 0},
        "unreadable": [],
        "average_steps": 1,
        "scale": None,
        "scale_steps": 0,
    }
    torch.load(state / "optimizer.bin", weights_only=True)


def test_how_often_an_epoch_shows_an_image_is_saved_where_it_is_not_once(tmp_path):
    state, training = tmp_path / "step-000001", tiny_training(step=1)
    state.mkdir()
    training.repeats = Repeats(0.001, np.array([1.0, 1.5, 1.0 + 2**-52]))
    training.save(state)
    found = read_repeats(state)
    assert found.threshold == 0.001
    np.testing.assert_array_equal(found.factors, training.repeats.factors)


def test_a_run_of_0_1_goes_on_bit_for_bit(recipe, tmp_path):
    settings = {
        "schedule.max_steps": 3,
        "run.checkpoint_every": 1,
        "run.keep_checkpoints": 3,
        "optim.ema_decay": 0.9,
        "model.config.freeze_backbone_norm": False,
    }
    run = tmp_path / "run"
    fit(recipe, **settings)
    log, scores = log_of(run), scores_of(run)
    expected = UniSegmentForUniversalSegmentation.from_pretrained(run / "checkpoint").state_dict()
    (run / "metrics.json").unlink()
    for path in (run / "checkpoints" / "step-000003").iterdir():
        path.unlink()
    (run / "checkpoints" / "step-000003").rmdir()
    make_old(run / "checkpoints" / "step-000002")
    fit(recipe, **settings)
    assert (log_of(run), scores_of(run)) == (log, scores)
    found = UniSegmentForUniversalSegmentation.from_pretrained(run / "checkpoint").state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
