# SPDX-License-Identifier: Apache-2.0

import pytest
import torch
from torch import nn

from tests.runs.small_runs import write_finished, write_unfinished
from tests.training.tiny_state import tiny_training
from unisegment.files import WriteError
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.recipe import Recipe, RunRecipe, ScheduleRecipe
from unisegment.runs.run_folder import RunFolder
from unisegment.runs.settings import RecipeError
from unisegment.training import checkpointing
from unisegment.training.checkpointing import (
    Start,
    changed_keys,
    changes_since,
    plan_start,
    save_state,
)


def recipe(folder, **run):
    return Recipe(
        data=DataRecipe(root="data"),
        schedule=ScheduleRecipe(max_steps=7),
        run=RunRecipe(output_dir=str(folder.root), **run),
    )


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def unfinished(folder):
    return write_unfinished(folder)


@pytest.fixture
def finished(folder):
    return write_finished(folder)


def test_a_new_or_empty_folder_starts_anew(folder):
    assert plan_start(recipe(folder)) == Start()
    folder.root.mkdir()
    assert plan_start(recipe(folder)) == Start()
    assert plan_start(recipe(folder, resume="never")) == Start(clears=True)


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_file_in_place_of_the_folder_is_said_with_its_key(tmp_path, resume):
    (tmp_path / "run").write_text("thesis")
    with pytest.raises(RecipeError, match=r"run\.output_dir=.*run is no folder\. Choose another"):
        plan_start(recipe(RunFolder(tmp_path / "run"), resume=resume))


def test_a_lock_that_a_killed_run_has_left_is_no_result(folder):
    folder.root.mkdir()
    (folder.root / "run.lock").write_text("process 7 on nowhere")
    assert plan_start(recipe(folder)) == Start()
    assert plan_start(recipe(folder, resume="never")) == Start(clears=True)


def test_auto_goes_on_from_the_newest_complete_state(unfinished):
    assert plan_start(recipe(unfinished)) == Start(state=unfinished.states / "step-1000000")


def test_auto_leaves_a_finished_run_alone(finished):
    assert plan_start(recipe(finished)) == Start(is_finished=True)
    assert plan_start(recipe(finished, overwrite=True)) == Start(is_finished=True)


def test_auto_starts_again_where_nothing_was_saved(folder):
    folder.root.mkdir()
    folder.recipe.write_text("run: {}")
    assert plan_start(recipe(folder)) == Start()


def test_auto_keeps_away_from_other_files(folder):
    folder.root.mkdir()
    (folder.root / "thesis.tex").write_text("")
    with pytest.raises(RecipeError, match="holds files, but no run to continue"):
        plan_start(recipe(folder))


def test_never_asks_before_it_overwrites(unfinished):
    with pytest.raises(RecipeError, match=r"is not empty.*run.overwrite=true"):
        plan_start(recipe(unfinished, resume="never"))
    assert plan_start(recipe(unfinished, resume="never", overwrite=True)) == Start(clears=True)


def test_a_path_may_be_a_state_or_a_run(unfinished, tmp_path):
    elsewhere = RunFolder(tmp_path / "elsewhere")
    state = unfinished.states / "step-000002"
    assert plan_start(recipe(elsewhere, resume=str(state))) == Start(state=state)
    assert plan_start(recipe(elsewhere, resume=str(unfinished.root))) == Start(state=unfinished.states / "step-1000000")
    with pytest.raises(RecipeError, match="there is no state to continue from"):
        plan_start(recipe(elsewhere, resume=str(unfinished.states / "step-000003")))
    with pytest.raises(RecipeError, match="there is no state to continue from"):
        plan_start(recipe(elsewhere, resume=str(tmp_path)))


def test_a_path_does_not_give_up_later_states_unasked(unfinished):
    state = unfinished.states / "step-000002"
    with pytest.raises(RecipeError, match=r"holds a run that is further than .*run\.resume=auto.*run\.overwrite=true"):
        plan_start(recipe(unfinished, resume=str(state)))
    assert plan_start(recipe(unfinished, resume=str(state), overwrite=True)) == Start(state=state)
    assert plan_start(recipe(unfinished, resume=str(unfinished.root))).state.name == "step-1000000"


def test_a_run_that_was_killed_with_its_first_file_half_written_begins(folder):
    folder.root.mkdir()
    (folder.root / "recipe.yaml.partial~").write_text("run:")
    assert plan_start(recipe(folder)) == Start()
    assert plan_start(recipe(folder, resume="never")) == Start(clears=True)


def test_a_path_does_not_overwrite_a_finished_run_unasked(finished):
    state = finished.states / "step-000002"
    with pytest.raises(RecipeError, match=r"holds a finished run.*run.overwrite=true"):
        plan_start(recipe(finished, resume=str(state)))
    assert plan_start(recipe(finished, resume=str(state), overwrite=True)) == Start(state=state)


def test_states_are_complete_and_the_last_ones_are_kept(folder):
    training = tiny_training()
    for step in (1, 2, 3):
        nn.init.constant_(training.losses.model.weight, step)
        training.progress.step = step
        save_state(training, folder, keep=2)
    assert sorted(path.name for path in folder.states.iterdir()) == ["step-000002", "step-000003"]
    nn.init.zeros_(training.losses.model.weight)
    training.load(folder.latest_state())
    assert torch.equal(training.losses.model.weight, torch.full((5, 3), 3.0))


def test_a_state_that_breaks_off_is_not_taken_for_one(folder, monkeypatch):
    training = tiny_training(step=1)
    save_state(training, folder, keep=2)

    def broken(path):
        raise OSError("disk full")

    monkeypatch.setattr(training, "save", broken)
    training.progress.step = 2
    with pytest.raises(WriteError, match=r"step-000002 could not be written: disk full\. "):
        save_state(training, folder, keep=2)
    assert [path.name for path in folder.states.iterdir()] == ["step-000001"]


def test_an_older_state_is_never_half_removed(folder, monkeypatch):
    training = tiny_training(step=1)
    save_state(training, folder, keep=1)
    complete = {path.name for path in (folder.states / "step-000001").iterdir()}

    def broken(path, ignore_errors=False):
        if path.name.startswith("step-000001"):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpointing.shutil, "rmtree", broken)
    training.progress.step = 2
    with pytest.raises(KeyboardInterrupt):
        save_state(training, folder, keep=1)
    monkeypatch.undo()
    assert [path.name for path in folder.all_states()] == ["step-000002"]
    assert {path.name for path in folder.latest_state().iterdir()} == complete
    folder.restore()
    assert [path.name for path in folder.states.iterdir()] == ["step-000002"]


def test_changes_are_listed_by_key():
    old = {"a": {"b": 1, "c": 2, "gone": 3}, "d": [1]}
    new = {"a": {"b": 1, "c": 5, "new": 4}, "d": [1]}
    assert changed_keys(old, new) == ["a.c: 2 -> 5", "a.gone: 3 -> None", "a.new: None -> 4"]


def test_keys_that_are_newer_than_a_recipe_had_their_defaults(folder, unfinished):
    folder.recipe.write_text(
        "data: {root: data, old: 3}\nschedule: {max_steps: 6}\nrun: {output_dir: there, seed: 1}\n"
    )
    changes = changes_since(folder, recipe(folder, tf32=False))
    assert sorted(changes) == [
        "data.old: 3 -> None",
        f"run.output_dir: there -> {folder.root}",
        "run.seed: 1 -> 0",
        "run.tf32: True -> False",
        "schedule.max_steps: 6 -> 7",
    ]
