# SPDX-License-Identifier: Apache-2.0
"""The recipes for own data run with the edits that they ask for, from a small checkpoint in place of theirs."""

import json
import math
import re

import pytest

from tests.models.unisegment.original_files import stock_model
from tests.recipes import small_trees
from unisegment.training import dry_run, fit, load_recipe

FORMATS = {"panoptic": "coco_panoptic", "instance": "coco_instance", "semantic": "png_semantic"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock")
    stock_model("swin").save_pretrained(folder)
    return folder


SMALL = {
    "data.workers": 0, "evaluation.pictures": 0, "run.threads": 1, "run.checkpoint_every": 0, "run.eval_every": 0,
    "data.shortest_edge": 64, "data.longest_edge": 128, "schedule.max_steps": 2,
}  # fmt: skip


def test_a_small_data_set_is_learned_from_nothing(tmp_path, capsys):
    recipe = load_recipe("own_data_scratch")
    assert (recipe.model.pretrained, recipe.optim.backbone_lr_factor, recipe.optim.clip_norm) == (None, 1.0, 1.0)
    assert recipe.model.config["freeze_backbone_norm"] is False
    places = {"data.root": str(tmp_path / "data"), "run.output_dir": str(tmp_path / "run")}
    small_trees.coco_panoptic(tmp_path / "data")
    text = dry_run(recipe, **SMALL, **places, **{"data.transform.jitter_size": [64, 64]})
    origin = r"# start   a resnet backbone and 100 queries, weights from no checkpoint; "
    assert re.search(origin + r"(\d\.\d) of \1 million start random\n", text)
    assert "# note" not in text
    fit(recipe, **SMALL, **places, **{"data.transform.jitter_size": [64, 64]})
    assert "Note:" not in capsys.readouterr().err
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [math.isfinite(line["loss"]) for line in log] == [True, True]


def test_a_recipe_for_fine_tuning_without_a_checkpoint_says_so(checkpoint, tmp_path):
    small_trees.coco_panoptic(tmp_path / "data")
    places = {"data.root": str(tmp_path / "data"), "run.output_dir": str(tmp_path / "run")}
    settings = {**SMALL, **places, "data.transform.jitter_size": [64, 64]}
    text = dry_run("own_data_panoptic", **settings, **{"model.pretrained": str(checkpoint)})
    assert f"# start   a swin backbone and 13 queries, weights from {checkpoint}; 0.0 of " in text
    assert "# note" not in text
    small = {
        "backbone_config": {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
    }
    text = dry_run("own_data_panoptic", **settings, **{"model.pretrained": None, "model.config": small})
    origin = r"# start   a swin backbone and 100 queries, weights from no checkpoint; "
    assert re.search(origin + r"(\d+\.\d) of \1 million start random\n", text)
    assert "# note    model.pretrained=null: all weights start random, but optim.backbone_lr_factor=0.1" in text
    assert "own_data_scratch" in text


@pytest.mark.parametrize("task", FORMATS)
def test_a_small_data_set_is_learned_from(task, checkpoint, tmp_path):
    recipe = load_recipe(f"own_data_{task}")
    assert (recipe.data.format, recipe.model.gradient_checkpointing, recipe.run.precision) == (
        FORMATS[task], True, "bf16",
    )  # fmt: skip
    assert recipe.model.pretrained.startswith("facebook/mask2former-swin-tiny-")
    getattr(small_trees, FORMATS[task])(tmp_path / "data")
    size = {"jitter_size": [64, 64]} if recipe.data.transform.jitter_size else {"crop_size": [64, 64]}
    metrics = fit(
        recipe,
        **{"data.root": str(tmp_path / "data"), "schedule.max_steps": 2, "run.output_dir": str(tmp_path / "run")},
        **{"model.pretrained": str(checkpoint), "data.workers": 0, "evaluation.pictures": 0, "run.threads": 1},
        **{"run.checkpoint_every": 0, "run.eval_every": 0, "data.shortest_edge": 64, "data.longest_edge": 128},
        **{f"data.transform.{key}": value for key, value in size.items()},
        **{"data.transform.shortest_edge": None if "jitter_size" in size else [48, 80]},
    )
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [math.isfinite(line["loss"]) for line in log] == [True, True]
    assert metrics[recipe.run.best_metric] is not None
