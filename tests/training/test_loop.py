# SPDX-License-Identifier: Apache-2.0
"""Whole runs of a tiny model on drawn scenes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from unisegment.data.synthetic import write_synthetic
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.training import loop
from unisegment.training.loop import fit
from unisegment.training.recipe import load_recipe
from unisegment.training.settings import RecipeError
from unisegment.training.step import NonFiniteLossError

ROOT = Path(__file__).parents[2]
RECIPE = """
data: {{root: {root}, format: synthetic, num_train: 8, num_val: 3, workers: 0, shortest_edge: 64, longest_edge: 80}}
model:
  config:
    backbone_config:
      model_type: resnet
      embedding_size: 8
      hidden_sizes: [8, 8, 16, 16]
      depths: [1, 1, 1, 1]
      layer_type: basic
      out_features: [stage1, stage2, stage3, stage4]
    feature_size: 32
    mask_feature_size: 32
    hidden_dim: 32
    encoder_feedforward_dim: 32
    dim_feedforward: 32
    encoder_layers: 1
    decoder_layers: 4
    num_attention_heads: 2
    num_queries: 11
    train_num_points: 64
optim: {{lr: 1e-3, batch_size: 4, clip_norm: 1.0}}
schedule: {{max_steps: 3}}
evaluation: {{pictures: 2}}
run: {{output_dir: {output}, threads: 1, checkpoint_every: 0}}
"""
PROCESSES = """
import sys, torch
draw = torch.rand

def same_points(masks, points, two, device=None):
    generator = torch.Generator().manual_seed(points)
    return draw(1, points, two, generator=generator).expand(masks, points, two).clone()

# The only random numbers of a step are the points where masks are compared: every mask gets the same ones.
torch.rand = same_points
from unisegment.training import fit
fit(sys.argv[1], **{"run.output_dir": sys.argv[2], "optim.accumulation": int(sys.argv[3])})
torch.distributed.is_initialized() and torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "scenes"
    write_synthetic(root, num_train=8, num_val=3, progress=False)
    return root


@pytest.fixture
def recipe(scenes, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(root=scenes, output=tmp_path / "run"))
    return path


def log_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def test_a_run_writes_everything(recipe, tmp_path, capsys, monkeypatch):
    judged, run = [], tmp_path / "run"
    evaluate = loop.evaluate

    def judge(*arguments, **settings):
        judged.append(len(log_of(run)))
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(loop, "evaluate", judge)
    metrics = fit(recipe, **{"data.root": str(tmp_path / "new"), "run.checkpoint_every": 2, "run.eval_every": 1})
    assert judged == [1, 2, 3]
    assert sorted(path.name for path in run.iterdir()) == [
        *("checkpoint", "checkpoints", "log.jsonl", "metrics.json", "predictions", "recipe.yaml")
    ]
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert list(metrics) == [
        *("pq", "sq", "rq", "pq_things", "pq_stuff", "mask_ap", "miou", "images", "step", "train_seconds", "finished")
    ]
    assert (metrics["images"], metrics["step"], metrics["finished"]) == (3, 3, True)

    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    terms = [f"loss_{term}{layer}" for layer in ("", "_0", "_1", "_2") for term in ("cross_entropy", "mask", "dice")]
    for number, line in enumerate(lines, start=1):
        assert set(line) == {"step", "loss", "lr", "images_per_second", "gradient_norm", *terms}
        assert line["step"] == number
        assert line["loss"] == pytest.approx(sum(line[term] for term in terms), rel=1e-5)
    assert [line["lr"] for line in lines] == pytest.approx([1e-3 * (left / 3) ** 0.9 for left in (3, 2, 1)])

    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000002", "step-000003"]
    assert len(list((run / "predictions").glob("*.png"))) == 2
    assert load_recipe(run / "recipe.yaml").run.checkpoint_every == 2
    message = capsys.readouterr().out
    assert re.search(r"3 steps in .* on 3 held-out images: PQ 0\.", message)
    assert f"from_pretrained('{run}/checkpoint')" in message


def test_the_lines_of_the_last_message_work(recipe, scenes, capsys):
    fit(recipe)
    picture = next((scenes / "val").iterdir())
    lines = capsys.readouterr().out.split("Next, in Python:\n")[1].replace("your.jpg", str(picture))
    *statements, expression = [line.strip() for line in lines.splitlines()]
    names = {}
    exec("\n".join(statements), names)
    prediction = eval(expression, names)
    with Image.open(picture) as image:
        assert prediction.segmentation.shape == (image.height, image.width)
    assert names["model"].config.id2label[0] == "disc"
    assert names["processor"].stuff_label_ids == [5, 6, 7]
    assert names["processor"].size == {"shortest_edge": 64, "longest_edge": 80}


def test_a_broken_off_run_goes_on_as_if_it_had_not_been(recipe, tmp_path, monkeypatch, capsys):
    settings = {"schedule.max_steps": 5, "run.checkpoint_every": 2, "data.transform.flip_prob": 0.5}
    fit(recipe, **settings, **{"run.output_dir": str(tmp_path / "unbroken")})
    take_step, steps = loop.take_step, []

    def breaks_off(*arguments):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return take_step(*arguments)

    monkeypatch.setattr(loop, "take_step", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, **settings)
    assert len(log_of(tmp_path / "run")) == 3
    torch.rand(7)
    monkeypatch.setattr(loop, "take_step", take_step)
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
    unbroken = json.loads((tmp_path / "unbroken" / "metrics.json").read_text())
    assert {**metrics, "train_seconds": 0} == {**unbroken, "train_seconds": 0}


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


def test_divergence_names_images(recipe, tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"scenes/train/0+\d\.png, .*lower optim\.lr"):
        fit(recipe, **{"optim.lr": 1e30, "run.checkpoint_every": 1})
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert all(path.name.startswith("step-") for path in (tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.num_val": 4}, r"holds 8 scenes for training and 3 held out, but the recipe asks for .*data.num_val=4"),
        ({"data.root": "gone", "data.format": "coco_panoptic"}, r"data.root=gone: "),
        ({"model.config.hidden_dim": 33}, r"model.config: "),
    ],
)
def test_what_cannot_be_run_writes_nothing(recipe, tmp_path, overrides, message):
    with pytest.raises(RecipeError, match=message):
        fit(recipe, **overrides)
    assert not (tmp_path / "run").exists()


def test_two_processes_equal_one(recipe, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PROCESSES)
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    runs = [
        subprocess.Popen(
            [*start, script, recipe, tmp_path / name, accumulation], env=environment, stderr=subprocess.PIPE, text=True
        )
        for start, name, accumulation in (([sys.executable], "one", "2"), (launcher, "two", "1"))
    ]
    errors = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert [line["step"] for line in two] == [1, 2, 3]
    for ours, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    for name, score in metrics[0].items():
        if name != "train_seconds":
            assert metrics[1][name] == pytest.approx(score, abs=1e-3), name
