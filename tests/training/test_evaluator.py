# SPDX-License-Identifier: Apache-2.0
"""What an evaluator writes down and keeps, of scores that are given; whole runs are in test_loop.py."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from unisegment.inference.report import SHORT_NAMES
from unisegment.runs.processes import StopSignals
from unisegment.runs.recipe import EvaluationRecipe, load_recipe
from unisegment.runs.run_folder import RunFolder
from unisegment.training import evaluator as evaluator_module
from unisegment.training.ema import WeightAverage
from unisegment.training.evaluator import Evaluator
from unisegment.training.unreadable import UnreadableImages

SCORES = dict.fromkeys(SHORT_NAMES) | {"pq": 0.0, "miou": 0.5, "images": 3}


class Model(nn.Module):
    """One weight, and files that say it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(num_labels=3)

    def save_pretrained(self, folder):
        (Path(folder) / "weight").write_text(str(self.weight.item()))


class Processor:
    stuff_label_ids = (1,)

    def why_not(self, task):
        return None

    def save_pretrained(self, folder):
        (Path(folder) / "processor").touch()


@pytest.fixture
def evaluator(recipe, tmp_path, monkeypatch):
    """An evaluator whose evaluations give the weight itself as panoptic quality."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(
        evaluator_module, "evaluate", lambda predictor, *_, **__: SCORES | {"pq": predictor.model.weight.item()}
    )
    resolved = load_recipe(recipe, {"run.eval_every": 1})
    return Evaluator(
        replace(resolved, evaluation=EvaluationRecipe(pictures=0)),
        RunFolder(tmp_path / "run"),
        Accelerator(cpu=True),
        Model(),
        None,
        None,
        Processor(),
        [],
        UnreadableImages(limit=2),
        StopSignals(),
    )


def lines_of(evaluator):
    return [json.loads(line) for line in evaluator.folder.evaluations.read_text().splitlines()]


def test_the_scores_after_a_step_are_written_down_once(evaluator):
    assert not evaluator.is_evaluated(7)
    evaluator.unreadable.note(["b.png is torn", "a.png is gone"])
    metrics = evaluator.evaluate(7, 1.5)
    assert metrics == SCORES | {
        "unreadable_images": ["a.png is gone", "b.png is torn"],
        **{"task": "panoptic", "step": 7, "train_seconds": 1.5, "finished": False},
    }
    assert evaluator.is_evaluated(7)
    assert json.loads(evaluator.folder.metrics.read_text()) == metrics
    finished = evaluator.evaluate(7, 1.5, is_finished=True)
    assert lines_of(evaluator) == [metrics]
    assert json.loads(evaluator.folder.metrics.read_text()) == finished == metrics | {"finished": True}


def test_the_first_of_the_best_models_is_kept(evaluator):
    for step, weight in enumerate([0.25, 0.5, 0.5, 0.125], start=1):
        nn.init.constant_(evaluator.model.weight, weight)
        evaluator.evaluate(step, 0.0)
    assert sorted(path.name for path in evaluator.folder.best.iterdir()) == ["metrics.json", "processor", "weight"]
    assert (evaluator.folder.best / "weight").read_text() == "0.5"
    assert json.loads((evaluator.folder.best / "metrics.json").read_text())["step"] == 2


@pytest.mark.parametrize(
    ("scores", "patience", "stops"),
    [
        (
            [0.5, 0.25, 0.5],
            2,
            "Stopped after step 3 of 3: pq has been best after step 1 (0.500, ",
        ),  # as good is no better
        ([0.5, 0.25], 2, None),
        ([0.25, 0.5, 0.375], 2, None),
        ([0.25, 0.5, 0.375], 1, "Stopped after step 3 of 3: pq has been best after step 2 (0.500, "),
        ([0.5, 0.25, 0.125], 0, None),  # nobody asked
        ([0.5, None, None], 1, None),
        ([None, None], 1, None),
        ([None, 0.5, None, 0.25], 1, "Stopped after step 4 of 3: pq has been best after step 2 (0.500, "),
        ([], 1, None),
    ],
)
def test_evaluations_that_are_no_better_end_the_run(evaluator, scores, patience, stops):
    evaluator.recipe = load_recipe(evaluator.recipe, {"run.patience": patience})
    lines = [{"step": step, "pq": score, "miou": step} for step, score in enumerate(scores, start=1)]
    evaluator.folder.evaluations.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    reason = evaluator.why_stop()
    assert reason is None if stops is None else reason.startswith(stops)


def test_what_is_evaluated_already_is_not_evaluated_again_at_the_end(evaluator, monkeypatch):
    metrics = evaluator.evaluate(7, 1.5)
    monkeypatch.setattr(evaluator_module, "evaluate", None)
    finished = evaluator.finish(7, 1.5)
    assert finished == metrics | {"finished": True} == json.loads(evaluator.folder.metrics.read_text())
    assert (evaluator.folder.model / "weight").exists()


@pytest.mark.parametrize(
    ("stuff", "best_metric", "task", "panels"),
    [
        ([1], None, "panoptic", {"panoptic", "instance", "semantic"}),
        ([], None, "instance", {"instance"}),
        ([0, 1, 2], None, "semantic", {"semantic"}),
        ([1], "miou", "semantic", {"semantic"}),
        ([1], "mask_ap", "instance", {"instance"}),
        ([0, 1, 2], "pq", "panoptic", {"panoptic", "instance", "semantic"}),
    ],
)
def test_labels_or_the_recipe_say_what_the_run_is_for(evaluator, monkeypatch, stuff, best_metric, task, panels):
    drawn = []
    monkeypatch.setattr(evaluator_module, "draw_images", lambda *_, tasks, **__: drawn.append(set(tasks)) or [])
    monkeypatch.setattr(evaluator_module, "evaluate", lambda *_, **__: SCORES | {"pq": 0.25, "mask_ap": 0.125})
    evaluator.processor.stuff_label_ids = stuff
    evaluator.recipe = replace(evaluator.recipe, run=replace(evaluator.recipe.run, best_metric=best_metric))
    assert evaluator.finish(3, 0.0)["task"] == task
    assert drawn == [panels]
    best = {"panoptic": ("pq", 0.25), "instance": ("mask_ap", 0.125), "semantic": ("miou", 0.5)}[task]
    assert evaluator.folder.best_score(best[0], 3) == best[1]


def test_a_score_that_is_not_there_keeps_no_model(evaluator):
    evaluator.recipe = load_recipe(evaluator.recipe, {"run.best_metric": "mask_ap"})
    evaluator.evaluate(1, 0.0)
    assert not evaluator.folder.best.exists()


def test_the_average_is_evaluated_and_saved_and_the_weights_come_back(evaluator):
    evaluator.average = WeightAverage(evaluator.model, 0.9)  # of zero
    nn.init.constant_(evaluator.model.weight, 0.75)
    assert evaluator.finish(4, 2.0)["pq"] == 0
    assert (evaluator.folder.model / "weight").read_text() == "0.0"
    assert evaluator.model.weight.item() == 0.75
    assert list(evaluator.folder.predictions.iterdir()) == []
