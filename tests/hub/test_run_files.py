# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import pytest
import yaml
from PIL import Image

from tests.hub.tiny_runs import METRICS, save, write_recipe
from unisegment.hub.run_files import read_run
from unisegment.runs.recipe import load_recipe


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


@pytest.mark.parametrize("unreadable", [{}, 7, "none"])
def test_images_that_were_left_out_must_be_a_list(run, unreadable):
    (run / "metrics.json").write_text(json.dumps({**METRICS, "unreadable_images": unreadable}))
    with pytest.raises(ValueError, match=r"metrics\.json: unreadable_images: .*, expected a list or null"):
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
    ("file", "content", "message"),
    [
        ("metrics.json", [1], "metrics.json holds no scores"),
        ("metrics.json", {**METRICS, "finished": "no"}, "metrics.json: finished: 'no', expected true or false"),
        ("metrics.json", {**METRICS, "pq": "0.8"}, "metrics.json: pq: '0.8', expected a number from 0 to 1 or null"),
        ("metrics.json", {**METRICS, "pq": float("nan")}, "metrics.json: pq: nan, expected a number"),
        ("metrics.json", {**METRICS, "images": None}, "metrics.json: images: None, expected a whole number"),
        ("metrics.json", {**METRICS, "task": 'x"); import os'}, "metrics.json: task: .* expected one of semantic"),
        ("metrics.json", "{", "metrics.json is not valid JSON"),
        ("recipe.yaml", [1], "recipe.yaml is no recipe"),
        ("recipe.yaml", {"data": [1]}, "recipe.yaml is no recipe"),
        ("recipe.yaml", {"data": {"root": 3}}, "recipe.yaml: data.root: 3, expected a text"),
        ("recipe.yaml", "a: &a [*a]", "recipe.yaml, line 1: a value contains itself"),
        ("recipe.yaml", b"\xff", "recipe.yaml, line 1: the byte 0xff is not UTF-8"),
    ],
)
def test_what_no_run_has_written_is_named(run, file, content, message):
    if isinstance(content, bytes):
        (run / file).write_bytes(content)
    else:
        (run / file).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_run(run)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["recipe.yaml", "metrics.json", "predictions/00000_secret name.png"])
def test_a_link_uploads_nothing_from_elsewhere(run, tmp_path, name):
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link: what is uploaded must lie in the folder itself"):
        read_run(run)


def test_what_is_uploaded_as_a_picture_is_one(run):
    picture = run / "predictions" / "00000_secret name.png"
    picture.write_text("password: 123")
    with pytest.raises(
        ValueError, match=rf"^{picture} cannot be read as an image: .*Remove it, .*left out\.$"
    ) as caught:
        read_run(run)
    assert len(str(caught.value).splitlines()) == 1
    Image.new("RGB", (13, 7)).save(picture, "JPEG")
    with pytest.raises(
        ValueError, match=rf"^{picture} is a picture of another kind \(JPEG\), expected is PNG\. Remove"
    ):
        read_run(run)
    picture.unlink()
    assert read_run(run).picture is None
