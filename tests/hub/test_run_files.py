# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import pytest
import yaml

from tests.hub.tiny_runs import METRICS, save, write_recipe
from unisegment.hub.run_files import hub_data_set, read_run, shared_recipe
from unisegment.training.recipe import load_recipe


def test_a_run_is_found_by_its_folder_and_by_its_checkpoint(run, monkeypatch):
    found = read_run(run)
    assert found.checkpoint == run / "checkpoint"
    assert found.metrics == METRICS
    assert found.picture == run / "predictions" / "00000_secret name.png"
    assert found.recipe["schedule"]["max_steps"] == 7
    assert read_run(run / "checkpoint") == found
    monkeypatch.chdir(run / "checkpoint")
    assert read_run(run.__class__(".")) == found


def test_the_best_model_has_its_own_scores_and_no_pictures(run):
    best = shutil.copytree(run / "checkpoint", run / "checkpoint-best")
    (best / "metrics.json").write_text(json.dumps({**METRICS, "pq": 0.99, "finished": False}))
    found = read_run(best)
    assert (found.metrics["pq"], found.picture, found.recipe["optim"]["batch_size"]) == (0.99, None, 4)


def test_a_checkpoint_alone_has_nothing_to_tell(tmp_path):
    found = read_run(save(tmp_path / "checkpoint"))
    assert (found.metrics, found.recipe, found.picture) == (None, None, None)


def test_a_run_without_pictures(run):
    shutil.rmtree(run / "predictions")
    assert read_run(run).picture is None


@pytest.mark.parametrize("metrics", [None, {**METRICS, "finished": False}])
def test_scores_of_another_model_are_not_told(run, metrics):
    (run / "metrics.json").unlink()
    if metrics:
        (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ValueError, match=r"first is not finished, so .* or push .*checkpoint-best"):
        read_run(run)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no model: it must be the folder of a finished run"):
        read_run(tmp_path)


def test_a_shared_recipe_names_no_place_and_still_runs(run, tmp_path):
    here = {
        "model.pretrained": str(tmp_path / "mine" / "base.pkl"),
        "model.config.backbone": "C:\\Users\\me\\resnet.pth",
        "run.resume": "../elsewhere/run",
        "hub.push": True,
        "hub.repo": "someone/cows",
    }
    write_recipe(run, "~/customers/cows", **here)
    recipe = read_run(run).recipe
    assert recipe["data"]["root"] == "cows"
    assert recipe["model"]["pretrained"] == "base.pkl"
    assert recipe["model"]["config"]["backbone"] == "resnet.pth"
    assert (recipe["run"]["resume"], recipe["run"]["output_dir"]) == ("run", "first")
    assert "hub" not in recipe
    assert str(tmp_path) not in yaml.safe_dump(recipe)
    (tmp_path / "shared.yaml").write_text(yaml.safe_dump(recipe))
    shared = load_recipe(tmp_path / "shared.yaml")
    assert shared.optim == load_recipe(run / "recipe.yaml").optim
    assert not shared.hub.push


@pytest.mark.parametrize(
    ("root", "shared"),
    [
        ("data/customer/cows", "cows"),
        ("cows", "cows"),
        ("..", "folder"),
        ("/", "folder"),
        ("s3://bucket/cows-*.parquet?key=secret", "cows-*.parquet"),
    ],
)
def test_of_a_path_its_last_part_is_left(root, shared):
    assert shared_recipe({"data": {"root": root}, "run": {}})["data"]["root"] == shared


@pytest.mark.parametrize(
    "root", ["user/cows:big@v1.0", "user/cows", "hf://datasets/user/cows@main/data/{split}.parquet"]
)
def test_names_on_the_hub_stay(root):
    recipe = {"data": {"root": root, "format": "hugging_face"}, "model": {"pretrained": "user/base"}}
    assert shared_recipe(recipe) == recipe
    assert hub_data_set(recipe) == "user/cows"


def test_a_folder_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "customer" / "cows").mkdir(parents=True)
    recipe = {"data": {"root": "customer/cows", "format": "hugging_face"}}
    assert shared_recipe(recipe)["data"]["root"] == "cows"
    assert hub_data_set(recipe) is None
    assert hub_data_set({"data": {"root": "user/cows", "format": "coco_panoptic"}}) is None
    assert hub_data_set(None) is None
