# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed, stopped or cannot write, and are started again: they end as if nothing had happened."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from typer.testing import CliRunner

from tests.training.tiny_run import RECIPE, log_of, scores_of
from tests.warm_processes import WarmProcess, run_script, run_warm
from unisegment import files
from unisegment.cli import app
from unisegment.inference import predictor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.runs.log_file import read_lines
from unisegment.training import checkpointing, fit, loop, training_state

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "schedule.max_steps": 6,  # at the last one an evaluation is due, too
    "run.checkpoint_every": 2,
    "run.eval_every": 2,
    "optim.ema_decay": 0.9,
    "evaluation.batch_size": 1,
    "data.transform.flip_prob": 0.5,
    "data.transform.jitter_size": [64, 96],
    "data.transform.mosaic_prob": 0.5,
    "data.transform.copy_paste_prob": 0.5,
    "data.repeat_threshold": 0.9,
    "model.config.freeze_backbone_norm": False,
}
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this system cannot kill a process in the middle")


def die_at(owner, name, call):
    """Let a function kill the process at one of its calls."""
    function, calls = getattr(owner, name), []

    def dying(*arguments, **settings):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **settings)

    setattr(owner, name, dying)


def in_a_step():
    die_at(Accelerator, "backward", 4)


def in_the_first_evaluation():
    die_at(predictor, "_forward", 2)


def in_the_last_evaluation():
    die_at(predictor, "_forward", 8)


def in_a_state():
    die_at(training_state, "save_file", 4)


def before_a_state_has_its_name():
    die_at(files.Path, "replace", 8)


def in_the_best_model():
    die_at(UniSegmentForUniversalSegmentation, "save_pretrained", 1)


def in_the_final_model():
    die_at(UniSegmentForUniversalSegmentation, "save_pretrained", 2)


def with_a_full_disk():
    """Let every write beyond some kilobytes of a file fail, as soon as the first state is there."""
    import resource

    put_in_place = files.put_in_place

    def limited(path):
        put_in_place(path)
        if path.name == "step-000002":
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    checkpointing.put_in_place = limited


SABOTAGE = [
    *(in_a_step, in_the_first_evaluation, in_the_last_evaluation, in_a_state, before_a_state_has_its_name),
    *(in_the_best_model, in_the_final_model, with_a_full_disk),
]


def train(recipe, settings, sabotage=None):
    if sabotage is not None:
        sabotage()
    fit(recipe, **settings)


def run(*arguments):
    """Return the exit status of a run in a process of its own."""
    return run_warm(train, *arguments)[0]


def weights_of(folder):
    return {
        name: UniSegmentForUniversalSegmentation.from_pretrained(folder / name).state_dict()
        for name in ("checkpoint", "checkpoint-best")
    }


@pytest.fixture(scope="module")
def unbroken(scenes, tmp_path_factory):

    folder = tmp_path_factory.mktemp("unbroken")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(root=scenes, output=folder / "run"))
    assert run(recipe, SETTINGS) == 0
    return folder / "run"


def assert_same(found, expected):
    assert log_of(found) == log_of(expected)
    assert scores_of(found) == scores_of(expected)
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in (found / "checkpoints").iterdir()) == ["step-000004", "step-000006"]
    assert [line["step"] for line in read_lines(found / "evaluations.jsonl")] == [2, 4, 6]
    for name, weights in weights_of(expected).items():
        for key, value in weights_of(found)[name].items():
            assert torch.equal(value, weights[key]), (name, key)


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda function: function.__name__)
def test_a_run_that_dies_ends_like_one_that_does_not(recipe, tmp_path, unbroken, sabotage):
    status = run(recipe, SETTINGS, sabotage)
    assert status == (1 if sabotage is with_a_full_disk else -signal.SIGKILL)
    assert not (tmp_path / "run" / "metrics.json").exists() or scores_of(tmp_path / "run")["step"] < 6
    # The number of workers does not matter.
    assert run(recipe, {**SETTINGS, "data.workers": 1}) == 0
    assert_same(tmp_path / "run", unbroken)


def at_the_third_step(act):
    """Let a run of this process do something in its third step."""
    take_step, steps = loop.take_step, []

    def acting(*arguments):
        steps.append(1)
        if len(steps) == 3:
            act()
        return take_step(*arguments)

    loop.take_step = acting


def train_and_signal(number, recipe, *words):
    at_the_third_step(lambda: os.kill(os.getpid(), number))
    run_script(ROOT / "recipes" / "train.py", recipe, *words)


def stop_by(number, recipe, folder):
    """Start a run of 9 steps to which a signal comes in its third, and see it stop."""
    words = ["schedule.max_steps=9", f"run.output_dir={folder}"]
    status, _, message = run_warm(train_and_signal, number, recipe, *words)
    assert status == 75, message
    assert "Stopped after step 3 of 9, as a signal asked for. The same command goes on" in message
    assert len(log_of(folder)) == 3


def test_a_run_that_is_stopped_saves_and_goes_on(recipe, tmp_path):
    stop_by(signal.SIGTERM, recipe, tmp_path / "stopped")
    for name in ("stopped", "run"):
        fit(recipe, **{"schedule.max_steps": 9, "run.output_dir": str(tmp_path / name)})
    assert log_of(tmp_path / "stopped") == log_of(tmp_path / "run")
    assert scores_of(tmp_path / "stopped") == scores_of(tmp_path / "run")


def test_ctrl_c_stops_it_in_the_same_way(recipe, tmp_path):
    stop_by(signal.SIGINT, recipe, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000003"]


def train_when_told(recipe, settings, told):
    def wait():
        while not told.exists():
            time.sleep(0.01)

    at_the_third_step(wait)
    fit(recipe, **settings)


def test_of_two_runs_in_one_folder_the_second_is_told_and_the_first_ends_as_if_alone(recipe, tmp_path):
    told, log = tmp_path / "told", tmp_path / "run" / "log.jsonl"
    first = WarmProcess(train_when_told, recipe, {"schedule.max_steps": 9, "run.checkpoint_every": 3}, told)
    while not log.exists():
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.01)
    second = CliRunner().invoke(app, ["train", str(recipe)])
    assert second.exit_code == 1
    (line,) = second.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/run is in use by process {first.pid} on ")
    told.touch()
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    assert [line["step"] for line in log_of(tmp_path / "run")] == list(range(1, 10))
    assert not (tmp_path / "run" / "run.lock").exists()


def test_the_same_command_goes_on_at_once_after_a_kill(recipe, tmp_path):
    killed = WarmProcess(train, recipe, {"schedule.max_steps": 100_000, "run.checkpoint_every": 2, "data.workers": 1})
    while not any((tmp_path / "run").glob("checkpoints/step-*2")):
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert f"process {killed.pid} on" in (tmp_path / "run" / "run.lock").read_text()
    step = max(line["step"] for line in log_of(tmp_path / "run"))
    assert fit(recipe, **{"schedule.max_steps": step + 1})["step"] == step + 1


@pytest.mark.skipif(os.geteuid() == 0, reason="to the administrator no folder is read-only")
def test_a_finished_run_is_said_in_a_folder_that_cannot_be_written(recipe, tmp_path, capsys):
    fit(recipe, **{"schedule.max_steps": 1})
    (tmp_path / "run").chmod(0o500)
    fit(recipe, **{"schedule.max_steps": 1})
    (tmp_path / "run").chmod(0o700)
    assert "Nothing to do" in capsys.readouterr().out
