# SPDX-License-Identifier: Apache-2.0
"""Images that cannot be read: what a run says and counts, and whole runs on damaged data."""

import json
import shutil

import pytest
import torch
from PIL import Image

from tests.training.tiny_run import breaking_off, log_of, scores_of
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.runs.settings import RecipeError
from unisegment.training.loop import fit
from unisegment.training.unreadable import UnreadableImages


def test_each_image_is_named_once(capsys):
    images = UnreadableImages(limit=3)
    images.note(["a.png is torn", "b.png is gone", "a.png is torn"])
    images.note(["b.png is gone"])
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"Left out, as data.on_error=skip says: {text}" for text in ("a.png is torn", "b.png is gone")]


def test_the_limit_ends_the_run():
    images = UnreadableImages(limit=2)
    images.note(["a.png is torn", "b.png is gone"])
    with pytest.raises(RecipeError, match=r"3 images .* data\.max_skipped=2.* check-data.* The last: c\.png is torn"):
        images.note(["c.png is torn"])


@pytest.fixture
def damaged(scenes, tmp_path):
    """A copy of the scenes with a torn image and a lost label map to learn from, and a torn image to evaluate on."""
    root = tmp_path / "damaged"
    shutil.copytree(scenes, root)
    train, label_maps, val = (sorted((root / name).iterdir()) for name in FOLDERS)
    for file in (train[2], val[0]):
        file.write_bytes(file.read_bytes()[:200])
    label_maps[5].unlink()
    return {"data.root": str(root), "data.format": "coco_panoptic", "schedule.max_steps": 4}, (
        train[2],
        label_maps[5],
        val[0],
    )


FOLDERS = ("train", "annotations/panoptic_train", "val")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_on_damaged_data_ends_or_leaves_it_out(damaged, recipe, tmp_path, workers, capsys):
    settings, files = damaged
    settings |= {"data.workers": workers}
    with pytest.raises((ValueError, OSError), match=f"{files[0]}|{files[1]}"):
        fit(recipe, **settings)
    metrics = fit(recipe, **settings, **{"run.output_dir": str(tmp_path / "whole"), "data.on_error": "skip"})
    assert len(metrics["unreadable_images"]) == 3
    assert all(any(str(file) in text for text in metrics["unreadable_images"]) for file in files)
    assert metrics["images"] == 2
    assert metrics == json.loads((tmp_path / "whole" / "metrics.json").read_text())
    said = capsys.readouterr()
    assert said.err.count("Left out, as data.on_error=skip says: ") == 3
    assert "3 images could not be read" in said.out


def test_images_without_a_label_map_are_errors_at_once_or_left_out(recipe, tmp_path, scenes):
    root = tmp_path / "pairs"
    for split in ("train", "val"):
        (root / "labels" / split).mkdir(parents=True)
        shutil.copytree(scenes / split, root / "images" / split)
        for file in (root / "images" / split).iterdir():
            with Image.open(file) as image:
                Image.new("L", image.size, 1).save(root / "labels" / split / f"{file.stem}.png")
    (root / "categories.json").write_text('["sky", "sea"]')
    lost = sorted((root / "labels" / "train").iterdir())[3]
    lost.unlink()
    settings = {"data.root": str(root), "data.format": "png_semantic", "schedule.max_steps": 1}
    with pytest.raises(RecipeError, match=f"{lost.name}: there is no such file for the image"):
        fit(recipe, **settings)
    assert not (tmp_path / "run").exists()
    metrics = fit(recipe, **settings, **{"data.on_error": "skip"})
    (problem,) = metrics["unreadable_images"]
    assert str(lost) in problem
    min((root / "labels" / "train").iterdir()).unlink()
    settings |= {"data.on_error": "skip", "data.max_skipped": 1, "run.output_dir": str(tmp_path / "again")}
    with pytest.raises(RecipeError, match=r"2 images cannot be read, and data\.max_skipped=1"):
        fit(recipe, **settings)


def test_a_resumed_run_on_damaged_data_ends_as_an_unbroken_one(damaged, recipe, tmp_path):
    settings = {**damaged[0], "data.on_error": "skip", "run.checkpoint_every": 2}
    unbroken = fit(recipe, **settings, **{"run.output_dir": str(tmp_path / "unbroken")})
    with breaking_off(4, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        fit(recipe, **settings)
    resumed = fit(recipe, **settings, **{"data.workers": 1})
    assert resumed["unreadable_images"] == unbroken["unreadable_images"]
    assert scores_of(tmp_path / "run") == scores_of(tmp_path / "unbroken")
    assert log_of(tmp_path / "run") == log_of(tmp_path / "unbroken")
    weights, expected = (
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / name / "checkpoint").state_dict()
        for name in ("run", "unbroken")
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_more_damage_than_allowed_ends_the_run(damaged, recipe):
    settings = {**damaged[0], "data.on_error": "skip", "data.max_skipped": 1}
    with pytest.raises(RecipeError, match=r"2 images cannot be read, and data\.max_skipped=1"):
        fit(recipe, **settings)
