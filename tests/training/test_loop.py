# SPDX-License-Identifier: Apache-2.0
"""Whole runs of a tiny model on drawn scenes."""

import json
import os
import re
import signal
import textwrap

import pytest
import torch
from PIL import Image

import unisegment
from tests.training.tiny_run import MEASURED, breaking_off, log_of, scores_of, spoiled
from unisegment.inference import predictor
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.runs.log_file import read_lines
from unisegment.runs.recipe import load_recipe
from unisegment.runs.settings import RecipeError
from unisegment.training import TrainingInterruptedError, dry_run, evaluator, loop
from unisegment.training.loop import fit
from unisegment.training.step import NonFiniteLossError


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def test_model_and_backbone_follow_the_schedule_across_a_break(recipe, tmp_path, monkeypatch):
    """The model is told the steps before whatever may depend on them."""
    told, evaluate = [], evaluator.evaluate

    def evaluating(*arguments, **settings):
        told.append("evaluation")
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(UniSegmentForUniversalSegmentation, "at_step", lambda _, step, of: told.append((step, of)))
    monkeypatch.setattr(evaluator, "evaluate", evaluating)
    stages = {"schedule.name": "two_stage_poly", "schedule.warmup_steps": 1, "schedule.backbone_warmup_steps": 1}
    settings = {**stages, "run.checkpoint_every": 2, "run.eval_every": 2}
    with breaking_off(3, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        fit(recipe, **settings)
    assert told == [(0, 3), (1, 3), (2, 3), "evaluation"]
    told.clear()
    fit(recipe, **settings)
    assert told == [(2, 3), (3, 3), "evaluation"]
    lines = log_of(tmp_path / "run")
    assert [line["lr"] for line in lines] == pytest.approx([0, 1e-3, 1e-3 * 0.5**0.9])
    assert [line["lr_backbone"] for line in lines] == pytest.approx([0, 0, 1e-4])


def test_a_run_writes_everything(recipe, tmp_path, capsys, monkeypatch):
    evaluated, run = [], tmp_path / "run"
    evaluate = evaluator.evaluate

    def noted(*arguments, **settings):
        evaluated.append(len(log_of(run)))
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(evaluator, "evaluate", noted)
    every = {"run.checkpoint_every": 2, "run.eval_every": 1, "evaluation.pictures": 2}
    metrics = fit(recipe, **every, **{"data.root": str(tmp_path / "new")})
    assert evaluated == [1, 2, 3]
    assert sorted(path.name for path in run.iterdir()) == [
        *("checkpoint", "checkpoint-best", "checkpoints", "evaluations.jsonl", "log.jsonl"),
        *("metrics.json", "predictions", "recipe.yaml"),
    ]
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert list(metrics) == [
        *("pq", "sq", "rq", "pq_things", "pq_stuff", "mask_ap", "miou", "images", "unreadable_images"),
        *("task", "step", "train_seconds", "finished"),
    ]
    assert (metrics["images"], metrics["step"], metrics["finished"]) == (3, 3, True)

    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    terms = [f"loss_{term}{layer}" for layer in ("", "_0", "_1", "_2") for term in ("cross_entropy", "mask", "dice")]
    for number, line in enumerate(lines, start=1):
        assert set(line) == {"step", "loss", "lr", "lr_backbone", "gradient_norm", *MEASURED, *terms}
        assert line["step"] == number
        assert line["loss"] == pytest.approx(sum(line[term] for term in terms), rel=1e-5)
    assert all(50 < line["peak_memory_mib"] < 20000 for line in lines)
    assert [line["lr_backbone"] for line in lines] == pytest.approx([line["lr"] / 10 for line in lines])
    assert [line["lr"] for line in lines] == pytest.approx([1e-3 * (left / 3) ** 0.9 for left in (3, 2, 1)])

    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000002", "step-000003"]
    evaluations = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in evaluations] == [1, 2, 3]
    assert evaluations[-1] == metrics
    best = max(evaluations, key=lambda line: line["pq"])  # the first of equals, as max chooses
    assert json.loads((run / "checkpoint-best" / "metrics.json").read_text()) == best
    UniSegmentForUniversalSegmentation.from_pretrained(run / "checkpoint-best")
    UniSegmentImageProcessor.from_pretrained(run / "checkpoint-best")
    assert len(list((run / "predictions").glob("*.png"))) == 2
    assert load_recipe(run / "recipe.yaml").run.checkpoint_every == 2
    message = capsys.readouterr().out
    assert re.search(r"3 steps in .* on 3 held-out images: PQ 0\.", message)
    assert f'Segmenter.from_pretrained("{run}")' in message


@pytest.mark.skipif("Segmenter" not in unisegment.__all__, reason="there is no Segmenter yet")
def test_the_lines_of_the_last_message_work(recipe, scenes, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(recipe)
    picture = next((scenes / "val").iterdir())
    lines = capsys.readouterr().out.split("In Python:\n")[1].replace("photo.jpg", str(picture))
    names = {}
    exec(textwrap.dedent(lines), names)
    with Image.open(picture) as image:
        assert names["result"].panoptic.segmentation.shape == (image.height, image.width)
    segmenter = names["segmenter"]
    assert segmenter.model.config.id2label[0] == "disc"
    assert segmenter.processor.stuff_label_ids == [5, 6, 7]
    assert segmenter.processor.size == {"shortest_edge": 64, "longest_edge": 80}


def test_a_broken_off_run_goes_on_as_if_it_had_not_been(recipe, tmp_path, capsys):
    settings = {"schedule.max_steps": 5, "run.checkpoint_every": 2, "data.transform.flip_prob": 0.5}
    fit(recipe, **settings, **{"run.output_dir": str(tmp_path / "unbroken")})
    with breaking_off(4, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        fit(recipe, **settings)
    assert len(log_of(tmp_path / "run")) == 3
    torch.rand(7)
    metrics = fit(recipe, **settings, **{"run.eval_every": 4})
    assert log_of(tmp_path / "run") == log_of(tmp_path / "unbroken")
    message = capsys.readouterr().out
    assert f"Continuing from {tmp_path}/run/checkpoints/step-000002" in message
    assert "Changed since the run began: run.eval_every: 0 -> 4" in message
    weights, expected = (
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / name / "checkpoint").state_dict()
        for name in ("run", "unbroken")
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert {**metrics, "train_seconds": 0} == scores_of(tmp_path / "unbroken") == scores_of(tmp_path / "run")


def test_neither_workers_nor_micro_batches_change_what_is_learned(recipe, tmp_path):
    fit(recipe, **{"schedule.max_steps": 1})
    fit(recipe, **{"schedule.max_steps": 1, "data.workers": 1, "run.output_dir": str(tmp_path / "workers")})
    assert log_of(tmp_path / "run") == log_of(tmp_path / "workers")


def test_a_finished_run_is_left_alone(recipe, tmp_path, capsys):
    metrics = fit(recipe, **{"schedule.max_steps": 1})
    before = contents(tmp_path / "run")
    capsys.readouterr()
    assert fit(recipe, **{"schedule.max_steps": 2}) == metrics
    assert "Nothing to do" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="is not empty"):
        fit(recipe, **{"run.resume": "never"})
    assert contents(tmp_path / "run") == before
    stale = tmp_path / "run" / "checkpoints" / "step-000009"
    stale.mkdir(parents=True)
    assert fit(recipe, **{"run.resume": "never", "run.overwrite": True, "schedule.max_steps": 2})["step"] == 2
    assert len(log_of(tmp_path / "run")) == 2
    assert not stale.exists()


def test_a_run_names_the_format_that_it_saw(recipe, scenes, tmp_path, capsys):
    settings = {"data.format": "auto", "schedule.max_steps": 1, "run.checkpoint_every": 1}
    fit(recipe, **settings)
    assert load_recipe(tmp_path / "run/recipe.yaml").data.format == "coco_panoptic"
    fit(recipe, **settings)
    assert "Changed" not in capsys.readouterr().out
    (tmp_path / "run/metrics.json").unlink()
    fit(recipe, **settings)
    fit(recipe, **settings | {"data.format": "synthetic"})
    (change,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Changed"))
    assert change == "Changed since that run: data.format: coco_panoptic -> synthetic"


def test_epochs_are_counted_where_the_data_are_known(recipe, tmp_path, capsys):
    assert "; 3 steps of 4 images, 1.5 epochs, on" in dry_run(recipe, **{"schedule.epochs": 1.4})
    settings = {"run.checkpoint_every": 1, "schedule.name": "constant"}
    with breaking_off(3, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        fit(recipe, **settings, **{"schedule.epochs": 1.4})
    assert "1.4 epochs of 8 images in batches of 4: 3 steps." in capsys.readouterr().out
    schedule = load_recipe(tmp_path / "run/recipe.yaml").schedule
    assert (schedule.max_steps, schedule.epochs) == (3, None)
    # What takes as many steps is no change.
    assert fit(recipe, **settings, **{"schedule.epochs": 1.5})["step"] == 3
    assert "Changed" not in capsys.readouterr().out
    assert [line["step"] for line in log_of(tmp_path / "run")] == [1, 2, 3]
    fit(recipe, **settings, **{"schedule.epochs": 7})
    assert "Nothing to do" in capsys.readouterr().out
    more = {"schedule.epochs": 2, "run.resume": str(tmp_path / "run"), "run.overwrite": True}
    fit(recipe, **settings, **more)
    (change,) = (line for line in capsys.readouterr().out.splitlines() if "schedule" in line)
    assert change == "Changed since the run began: schedule.max_steps: 3 -> 4"


def test_a_run_that_gets_no_better_ends_early_after_a_kill_too(recipe, tmp_path, monkeypatch, capsys):
    """Without a learning rate nothing gets better."""
    still = {"optim.lr": 0, "schedule.max_steps": 9, "run.eval_every": 2, "run.patience": 1, "run.checkpoint_every": 1}
    unbroken, run = tmp_path / "unbroken", tmp_path / "run"
    metrics = fit(recipe, **still, **{"run.output_dir": str(unbroken)})
    assert (metrics["step"], metrics["finished"]) == (4, True)
    assert f"Stopped after step 4 of 9: pq has been best after step 2 (0.000, {unbroken}/checkpoint-best), and no " in (
        capsys.readouterr().out
    )
    assert (unbroken / "checkpoint" / "model.safetensors").is_file()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.Evaluator, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, **still)
    assert fit(recipe, **still)["step"] == 4
    assert log_of(run) == log_of(unbroken)
    assert scores_of(run) == scores_of(unbroken)
    assert len(read_lines(run / "evaluations.jsonl")) == 2
    more = {"run.resume": str(run), "run.overwrite": True, "run.patience": 2}
    assert fit(recipe, **{**still, **more})["step"] == 6


def test_training_goes_on_from_a_checkpoint_with_other_labels(recipe, tmp_path):
    first = fit(recipe, **{"schedule.max_steps": 1})
    model = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "run" / "checkpoint")
    model.config.id2label = {0: "other", 1: "labels"}
    UniSegmentForUniversalSegmentation(model.config).save_pretrained(tmp_path / "other")
    UniSegmentImageProcessor(size={"shortest_edge": 5, "longest_edge": 7}).save_pretrained(tmp_path / "other")
    second = fit(
        recipe,
        **{
            "schedule.max_steps": 1,
            "model.config": {},
            "model.pretrained": str(tmp_path / "other"),
            "run.output_dir": str(tmp_path / "second"),
        },
    )
    assert second["images"] == first["images"]
    model = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "second" / "checkpoint")
    assert model.config.id2label[7] == "soil"
    processor = UniSegmentImageProcessor.from_pretrained(tmp_path / "second" / "checkpoint")
    assert dict(processor.size) == {"shortest_edge": 64, "longest_edge": 80}
    assert processor.stuff_label_ids == [5, 6, 7]


def test_a_step_without_a_finite_loss_is_left_out(recipe, tmp_path, monkeypatch, capsys):
    learning = {"model.config.freeze_backbone_norm": False, "schedule.max_steps": 4, "optim.accumulation": 2}
    steps = []
    take_step = loop.take_step

    def watched(accelerator, losses, *arguments):
        before = {name: value.clone() for name, value in losses.state_dict().items()}
        steps.append([])
        try:
            return take_step(accelerator, losses, *arguments)
        finally:
            steps[-1] = [name for name, value in losses.state_dict().items() if not torch.equal(value, before[name])]

    monkeypatch.setattr(loop, "take_step", watched)
    with spoiled([3]):  # the second half of the second step
        metrics = fit(recipe, **learning)
    assert [bool(changed) for changed in steps] == [True, False, True, True]
    assert any("running_mean" in name for name in steps[0])
    assert metrics["step"] == 4
    lines = log_of(tmp_path / "run")
    assert [line["loss"] is None for line in lines] == [False, True, False, False]
    (names,) = [line["skipped_images"] for line in lines if "skipped_images" in line]
    assert len(names) == 2
    assert all(name.startswith("train/") or "/train/" in name for name in names)
    message = capsys.readouterr().err
    assert "Step 2 is left out. The loss is not a finite number for the images" in message
    assert all(name in message for name in names)


def test_divergence_ends_the_run_and_names_images(recipe, tmp_path):
    settings = {"schedule.max_steps": 9, "optim.max_non_finite_steps": 3, "run.checkpoint_every": 1}
    expected = pytest.raises(NonFiniteLossError, match=r"scenes/train/0+\d\.png.*lower optim\.lr")
    with spoiled([1, 3, 4, 5]), expected as caught:
        fit(recipe, **settings)
    lines = log_of(tmp_path / "run")
    assert caught.value.file_names == lines[-1]["skipped_images"]
    assert [line["loss"] is None for line in lines] == [False, True, False, True, True, True]
    assert all(len(line.get("skipped_images", [])) == (4 if line["loss"] is None else 0) for line in lines)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_signal_during_an_evaluation_ends_it_and_saves(recipe, tmp_path, monkeypatch):
    settings = {"schedule.max_steps": 2, "run.eval_every": 1, "optim.ema_decay": 0.9, "evaluation.batch_size": 1}
    fit(recipe, **settings, **{"run.output_dir": str(tmp_path / "unbroken")})
    forward = predictor._forward

    def stopped(*arguments):
        if not any((tmp_path / "run" / "checkpoints").glob("step-*")):
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(*arguments)

    monkeypatch.setattr(predictor, "_forward", stopped)
    with pytest.raises(TrainingInterruptedError, match=r"Stopped after step 1 of 2.*The same command goes on"):
        fit(recipe, **settings)
    assert not (tmp_path / "run" / "evaluations.jsonl").exists()
    fit(recipe, **settings)
    for name in ("run", "unbroken"):
        assert [line["step"] for line in read_lines(tmp_path / name / "evaluations.jsonl")] == [1, 2]
    assert log_of(tmp_path / "run") == log_of(tmp_path / "unbroken")
    assert scores_of(tmp_path / "run") == scores_of(tmp_path / "unbroken")


def test_a_run_can_go_on_from_an_earlier_state_with_another_learning_rate(recipe, tmp_path):
    settings = {"schedule.max_steps": 3, "run.checkpoint_every": 1, "run.keep_checkpoints": 1}
    fit(recipe, **{**settings, "run.keep_checkpoints": 9})
    earlier = tmp_path / "run" / "checkpoints" / "step-000001"
    again = {**settings, "run.resume": str(earlier), "optim.lr": 1e-5}
    with pytest.raises(RecipeError, match=r"holds a finished run"):
        fit(recipe, **again)
    fit(recipe, **again, **{"run.overwrite": True})
    assert [line["lr"] for line in log_of(tmp_path / "run")] == pytest.approx(
        [lr * (left / 3) ** 0.9 for lr, left in ((1e-3, 3), (1e-5, 2), (1e-5, 1))]
    )
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000003"]


def test_runs_of_one_process_may_differ_in_precision(recipe, tmp_path):
    for precision in ("no", "bf16"):
        settings = {"schedule.max_steps": 1, "run.precision": precision}
        fit(recipe, **settings, **{"run.output_dir": str(tmp_path / precision)})
    losses = [log_of(tmp_path / precision)[0]["loss"] for precision in ("no", "bf16")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_tf32_is_the_recipes_for_as_long_as_the_run_lasts(recipe, tmp_path, capsys, monkeypatch):
    seen, take_step, evaluate = [], loop.take_step, evaluator.evaluate

    def noting(function):
        def noted(*arguments, **settings):
            matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
            seen.append((matmul.allow_tf32, matmul.fp32_precision == "tf32", cudnn.allow_tf32))
            return function(*arguments, **settings)

        return noted

    monkeypatch.setattr(loop, "take_step", noting(take_step))
    monkeypatch.setattr(evaluator, "evaluate", noting(evaluate))
    before, run = torch.backends.cuda.matmul.fp32_precision, tmp_path / "run" / "recipe.yaml"
    fit(recipe, **{"schedule.max_steps": 1, "run.checkpoint_every": 1})
    # A state of an earlier release, whose recipes had no such key: it goes on with the default, and nothing changed.
    text = run.read_text()
    run.write_text("".join(line for line in text.splitlines(keepends=True) if "tf32" not in line))
    fit(recipe, **{"schedule.max_steps": 2, "run.resume": str(tmp_path / "run"), "run.overwrite": True})
    said = capsys.readouterr().out
    assert "Changed since the run began: schedule.max_steps: 1 -> 2" in said
    assert "run.tf32" not in said
    assert run.read_text().count("tf32: true") == 1
    fit(recipe, **{"schedule.max_steps": 1, "run.tf32": False, "run.output_dir": str(tmp_path / "other")})
    assert seen == [(True, True, True)] * 4 + [(False, False, False)] * 2
    assert torch.backends.cuda.matmul.fp32_precision == before
    # On a processor it has no effect.
    assert log_of(tmp_path / "other")[0]["loss"] == log_of(tmp_path / "run")[0]["loss"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"run.tf32": "on"}, r"run\.tf32 must be true or false, got 'on'"),
        ({"data.num_val": 4}, r"holds 8 scenes for training and 3 held out, but the recipe asks for .*data.num_val=4"),
        ({"data.root": "gone", "data.format": "coco_panoptic"}, r"data.root=gone, data.format=coco_panoptic: "),
        ({"model.config.hidden_dim": 33}, r"model.config: "),
        ({"optim.batch_size": 5, "optim.accumulation": 3}, r"optim\.batch_size=5 cannot be divided into "),
        ({"run.patience": 2}, r"recipe\.yaml: run: patience=2 counts evaluations, but eval_every=0\. Set the steps "),
        ({"run.precision": "fp16"}, r"run\.precision=fp16 needs a GPU.*run\.precision=bf16"),
    ],
)
def test_what_cannot_be_run_writes_nothing(recipe, tmp_path, overrides, message):
    with pytest.raises(RecipeError, match=message):
        fit(recipe, **overrides)
    assert not (tmp_path / "run").exists()
