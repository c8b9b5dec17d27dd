# SPDX-License-Identifier: Apache-2.0
from typing import ClassVar

import accelerate.tracking
import pytest
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType

from tests.training.tiny_run import log_of
from unisegment.runs.settings import RecipeError
from unisegment.training import fit


class Recorder(GeneralTracker):
    """Remembers what it is told."""

    name = "trackio"
    requires_logging_directory = False
    runs: ClassVar[list["Recorder"]] = []

    def __init__(self, project, **settings):
        super().__init__()
        self.project, self.settings, self.config, self.lines, self.is_open = project, settings, None, [], True
        Recorder.runs.append(self)

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **settings):
        self.lines.append((step, values))

    def finish(self):
        self.is_open = False


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(Recorder, "runs", [])
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "trackio", Recorder)
    monkeypatch.setattr("accelerate.accelerator.LOGGER_TYPE_TO_CLASS", {"trackio": Recorder})
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [LoggerType.TRACKIO])
    return Recorder.runs


def test_trackers_get_every_number_of_the_log_and_all_scores(recipe, tmp_path, recorded):
    settings = {"run.trackers": ["trackio"], "run.project": "shapes", "schedule.max_steps": 2, "run.eval_every": 1}
    metrics = fit(recipe, **settings)
    (run,) = recorded
    assert (run.project, run.is_open) == ("shapes", False)
    run_id = (tmp_path / "run" / "trackers" / "run_id").read_text()
    assert run.settings == {"name": f"run-{run_id}", "resume": "allow"}
    assert run.config["optim.lr"] == 1e-3
    assert run.config["model.config.backbone_config.hidden_sizes"] == "[8, 8, 16, 16]"
    assert run.config["model.pretrained"] == "None"
    steps = [(step, values) for step, values in run.lines if "loss" in values]
    scores = [(step, values) for step, values in run.lines if "eval/pq" in values]
    assert [step for step, _ in steps] == [step for step, _ in scores] == [1, 2]
    for (step, values), line in zip(steps, log_of(tmp_path / "run"), strict=True):
        assert {**values, **line, "step": step} == {**values, "step": line["step"]}
        assert {"images_per_second", "peak_memory_mib", "lr_backbone", "gradient_norm"} <= set(values)
    assert scores[-1][1]["eval/miou"] == metrics["miou"]


def test_a_run_that_goes_on_is_the_same_run_to_its_tracker(recipe, tmp_path, recorded):
    settings = {"run.trackers": ["trackio"], "run.checkpoint_every": 1, "schedule.max_steps": 1}
    fit(recipe, **settings)
    (tmp_path / "run" / "metrics.json").unlink()
    fit(recipe, **{**settings, "schedule.max_steps": 2})
    first, second = recorded
    assert first.settings == second.settings
    assert [step for step, values in second.lines if "loss" in values] == [2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbored", r"there is no tracker 'tensorbored'\. Choose among .*tensorboard"),
        ("wandb", r"run\.trackers: wandb is not installed\. Install it: pip install wandb"),
    ],
)
def test_a_tracker_that_cannot_be_used_is_an_error(recipe, tmp_path, recorded, name, message):
    with pytest.raises(RecipeError, match=message):
        fit(recipe, **{"run.trackers": [name]})
    assert not (tmp_path / "run").exists()


def test_tensorboard_writes_into_the_folder_of_the_run(recipe, tmp_path):
    fit(recipe, **{"run.trackers": ["tensorboard"], "schedule.max_steps": 1})
    assert list((tmp_path / "run" / "trackers" / "unisegment").glob("events.out.tfevents.*"))
