# SPDX-License-Identifier: Apache-2.0
import json
import re
import shutil

import pytest

from unisegment.runs.settings import RecipeError, parse_yaml
from unisegment.training import dry_run, fit, load_recipe


def test_it_says_what_a_run_would_do_and_writes_nothing(recipe, scenes, tmp_path):
    before = sorted(path for path in tmp_path.rglob("*"))
    text = dry_run(recipe, **{"schedule.max_steps": 6, "optim.ema_decay": 0.9})
    assert sorted(path for path in tmp_path.rglob("*")) == before
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(text)
    assert load_recipe(resolved) == load_recipe(recipe, {"schedule.max_steps": 6, "optim.ema_decay": 0.9})
    assert "# data    8 images to learn from and 3 to evaluate on, found; 8 labels, 3 of them stuff" in text
    assert "# run     begins anew; 6 steps of 4 images, 3 epochs, on 1 process(es)" in text
    assert re.search(r"# model   0\.\d million weights, of which 0\.\d million learn", text)
    assert "# numbers steps in float32, evaluation in float32\n" in text
    assert re.search(r"# memory  \d+ MiB in each process, .*average \d.*activations \d+.*, 4 of \d+x\d+\)", text)


def test_the_memory_of_each_part_adds_up_to_the_peak(recipe, scenes):
    text = dry_run(recipe, memory=True, **{"data.transform.jitter_size": [256, 320], "optim.ema_decay": 0.9})
    rows = re.findall(r"^# +([\d,]+)  (.+)$", text, re.MULTILINE)
    parts = {name: int(size.replace(",", "")) for size, name in rows}
    assert {"pixel_decoder.layers, kept for the backward pass", "criterion, kept for the backward pass"} < parts.keys()
    assert {"weights", "optimizer", "inputs", "gradients and what is passing, at the worst moment"} <= parts.keys()
    assert sum(parts.values()) - parts["peak"] == pytest.approx(parts["peak"], abs=len(parts))
    assert f"# memory  {parts['peak']} MiB in each process" in text
    assert parse_yaml(text, "text")["optim"]["ema_decay"] == 0.9


def test_scenes_that_are_not_there_are_not_drawn(recipe, tmp_path):
    text = dry_run(recipe, **{"data.root": str(tmp_path / "new"), "data.num_train": 700})
    assert "700 images to learn from and 3 to evaluate on, to be drawn" in text
    assert not (tmp_path / "new").exists()


def test_held_out_crowds_are_said_by_a_rehearsal_and_by_the_run(recipe, scenes, tmp_path, capsys):
    root = tmp_path / "copy"
    shutil.copytree(scenes, root)
    (file,) = (root / "annotations").glob("*val*.json")
    content = json.loads(file.read_text())
    for segment in (segment for entry in content["annotations"] for segment in entry["segments_info"]):
        segment["iscrowd"] = 1
    file.write_text(json.dumps(content))
    settings = {"data.root": str(root), "schedule.max_steps": 1}
    said = "none of the 3 held-out images has a segment that is no crowd: there will be no scores"
    assert f"# note    {said}" in dry_run(recipe, **settings)
    metrics = fit(recipe, **settings)
    assert metrics["pq"] is metrics["miou"] is None
    assert f"Note: {said}" in capsys.readouterr().err


def test_it_knows_what_is_there_already(recipe, tmp_path):
    settings = {"schedule.max_steps": 1, "run.checkpoint_every": 1, "model.config.decoder_layers": 2}
    fit(recipe, **settings)
    assert "# run     nothing is left to do: the run is finished" in dry_run(recipe, **settings)
    (tmp_path / "run" / "metrics.json").unlink()
    assert f"# run     goes on from {tmp_path}/run/checkpoints/step-000001; " in dry_run(recipe, **settings)
    assert parse_yaml(dry_run(recipe, **settings), "text")["schedule"]["max_steps"] == 1
    with pytest.raises(RecipeError, match=r"data\.root=gone"):
        dry_run(recipe, **{"data.root": "gone", "data.format": "coco_panoptic"})
