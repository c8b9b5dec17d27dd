# SPDX-License-Identifier: Apache-2.0
"""A changed recipe in the folder of an earlier run is said by the run and by its dry run, first of all."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import ones
from typer.testing import CliRunner

from unisegment.cli import app
from unisegment.training import RecipeError, dry_run, fit

METRICS = {"step": 1, "task": "panoptic", "pq": 0.5, "pq_things": 0.5, "pq_stuff": 0.5, "mask_ap": 0.5, "miou": 0.5}


@pytest.fixture
def begun(recipe, tmp_path):
    fit(recipe, **{"schedule.max_steps": 1, "run.checkpoint_every": 1, "evaluation.pictures": 0})
    (tmp_path / "run" / "metrics.json").unlink()
    return recipe


@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_another_model_is_one_line_that_names_what_to_do(begun, more, tmp_path):
    words = [
        "train",
        str(begun),
        "schedule.max_steps=2",
        "run.checkpoint_every=1",
        "model.config.num_queries=13",
        *more,
    ]
    log = (tmp_path / "run" / "log.jsonl").read_bytes()
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1, result.output
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"error: {tmp_path}/run/checkpoints/step-000001 does not fit the model of this recipe (")
    assert "(model.config.num_queries: 11 -> 13)" in line
    assert "(11, 32) there and (13, 32) here" in line
    assert all(key in line for key in ("run.output_dir", "run.resume=never", "run.overwrite=true"))
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == log


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optim.weight_decay=0", "does not fit the optimiser of this recipe (optim.weight_decay: 0.05 -> 0.0)"),
        ("model.frozen_stages=all", "does not fit the optimiser of this recipe (model.frozen_stages: 0 -> all)"),
        ("optim.ema_decay=0.9", "was saved without a moving average"),
    ],
)
def test_what_the_optimiser_cannot_take_over_is_said_by_both(begun, change, said, dry_run):
    words = ["train", str(begun), "schedule.max_steps=2", change, *["--dry-run"] * dry_run]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1, result.output
    assert said in result.stderr.splitlines()[-1]


def test_a_schedule_that_keeps_the_backbone_apart_is_named(recipe, tmp_path):
    same = {"optim.backbone_lr_factor": 1.0, "optim.ema_decay": 0.5, "run.checkpoint_every": 1}
    same["model.config.freeze_backbone_norm"] = False
    fit(recipe, **same, **{"schedule.max_steps": 1})
    (tmp_path / "run" / "metrics.json").unlink()
    # Releases before averaged buffers that do not learn.
    file = tmp_path / "run" / "checkpoints" / "step-000001" / "average.safetensors"
    save_file(load_file(file) | {"backbone.body.embedder.embedder.normalization.num_batches_tracked": ones(1)}, file)
    assert "# run     goes on from " in dry_run(recipe, **same, **{"schedule.max_steps": 2})
    with pytest.raises(RecipeError, match=r"the optimiser of this recipe \(.*schedule\.name: poly -> two_stage_poly\)"):
        dry_run(recipe, **same, **{"schedule.max_steps": 2, "schedule.name": "two_stage_poly"})


def test_moments_of_another_shape_are_named(begun, tmp_path):
    file = tmp_path / "run" / "checkpoints" / "step-000001" / "optimizer.bin"
    content = torch.load(file)
    content["state"][3]["exp_avg"] = torch.ones(1)
    torch.save(content, file)
    result = CliRunner().invoke(app, ["train", str(begun), "schedule.max_steps=2"])
    assert result.exit_code == 1, result.output
    line = result.stderr.splitlines()[-1]
    assert line.startswith(
        f"error: {file} cannot be used: in state.3, 1 weights differ, such as exp_avg, which is (1,)"
    )


def test_a_finished_run_says_what_its_recipe_was(begun, tmp_path):
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(METRICS | {"finished": True}))
    words = ["train", str(begun), "schedule.max_steps=1", "model.config.num_queries=13"]
    change = "model.config.num_queries: 11 -> 13"
    assert f"\nChanged since that run: {change}\n" in CliRunner().invoke(app, words).output
    dry = CliRunner().invoke(app, [*words, "--dry-run"]).output
    assert re.search(rf"# run     nothing is left to do: the run is finished \(with another recipe: .*{change}", dry)


def test_what_changes_no_weight_goes_on(begun):
    words = ["train", str(begun), "schedule.max_steps=2", "model.config.class_weight=3.0", "--dry-run"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "# run     goes on from " in result.output
