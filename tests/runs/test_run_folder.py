# SPDX-License-Identifier: Apache-2.0
import json
import math

import pytest

from tests.runs.small_runs import write_finished, write_unfinished
from unisegment.runs.run_folder import RunFolder, recipe_of_run, state_step


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def unfinished(folder):
    return write_unfinished(folder)


@pytest.fixture
def finished(folder):
    return write_finished(folder)


def test_a_copy_of_a_state_is_left_alone(unfinished):
    (unfinished.states / "step-000002-backup").mkdir()
    assert unfinished.latest_state().name == "step-1000000"


def test_clearing_removes_what_a_run_writes_and_nothing_else(finished):
    for path in (finished.model, finished.best, finished.predictions, finished.trackers):
        path.mkdir()
        (path / "file").write_text("")
    for path in (finished.log, finished.evaluations):
        path.write_text("{}")
    (finished.root / "notes.txt").write_text("mine")
    finished.clear()
    assert [path.name for path in finished.root.iterdir()] == ["notes.txt"]


def test_the_best_score_is_that_of_the_best_model_up_to_a_step(folder):
    assert folder.best_score("pq", 9) == -math.inf
    folder.best.mkdir(parents=True)
    (folder.best / "metrics.json").write_text(json.dumps({"pq": 0.5, "mask_ap": None, "step": 7}))
    assert folder.best_score("pq", 7) == 0.5
    assert folder.best_score("mask_ap", 7) == -math.inf
    assert folder.best_score("pq", 6) == -math.inf


def test_states_are_ordered_by_their_steps(unfinished):
    assert [state_step(state) for state in unfinished.all_states()] == [2, 999_999, 1_000_000]
    assert [state.name for state in unfinished.states_after(2)] == ["step-999999", "step-1000000"]
    assert not unfinished.is_finished()


def test_a_run_and_its_checkpoints_know_its_recipe(folder):
    for place in (folder.root, folder.model, folder.best, folder.states):
        place.mkdir(parents=True, exist_ok=True)
        assert recipe_of_run(str(place)) is None
    folder.recipe.write_text("run: {}")
    for place in (folder.root, folder.model, folder.best):
        assert recipe_of_run(str(place)) == folder.recipe
    assert recipe_of_run(str(folder.states)) is None
