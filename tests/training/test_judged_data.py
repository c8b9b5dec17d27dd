# SPDX-License-Identifier: Apache-2.0
"""What a finished model is judged on is what its training held out, whichever command opens it."""

import json
import shutil

import datasets
import fsspec
import pytest
from typer.testing import CliRunner

from tests.data.rows import same, semantic_rows
from tests.recipes import small_trees
from unisegment import UniSegmentConfig, cli
from unisegment.checking.sources import find_parts
from unisegment.inference import checkpoint_evaluation, checkpoint_prediction
from unisegment.ops import weight_sources
from unisegment.runs.recipe import load_recipe
from unisegment.runs.run_folder import recipe_of_run
from unisegment.runs.settings import RecipeError
from unisegment.training.assembly import open_samples
from unisegment.training.judged_data import open_judged_data, tasks_of_format

OF_ONE_SPLIT = """
data:
  format: hugging_face
  root: {root}
  columns: {{image: photo, semantic: mask}}
  categories: {categories}
  splits: {{train: "train[:4]", val: "train[4:]"}}
schedule: {{max_steps: 1}}
run: {{output_dir: {root}-run}}
"""


@pytest.fixture
def rows_of_one_split(tmp_path, monkeypatch):
    """A recipe for rows with columns, categories and splits of its own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = tmp_path / "rows"
    semantic_rows().rename_columns({"image": "photo", "label": "mask"}).save_to_disk(root)
    (tmp_path / "names.json").write_text(json.dumps({number: f"class {number}" for number in range(1, 10)}))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(OF_ONE_SPLIT.format(root=root, categories=tmp_path / "names.json"))
    return recipe


def opened_by(monkeypatch, *words):
    """Return the images and keywords that a command hands on to the library."""
    seen = []
    for module, name in ((checkpoint_evaluation, "evaluate_checkpoint"), (checkpoint_prediction, "predict_images")):
        monkeypatch.setattr(module, name, lambda checkpoint, samples, *_, **keywords: seen.append((samples, keywords)))
    monkeypatch.setattr(weight_sources, "find_checkpoint", lambda checkpoint: checkpoint)
    CliRunner().invoke(cli.app, words)
    return seen[0]


def test_every_command_opens_the_rows_that_training_holds_out(rows_of_one_split, monkeypatch):
    recipe = str(rows_of_one_split)
    _, held_out = open_samples(load_recipe(recipe).data)
    assert len(held_out) == 3
    judged, keywords = opened_by(monkeypatch, "evaluate", "model", "--recipe", recipe)
    assert keywords["size"] == {"shortest_edge": 800, "longest_edge": 1333}
    predicted, keywords = opened_by(monkeypatch, "predict", "model", recipe, "out")
    assert keywords["size"] == {"shortest_edge": 800, "longest_edge": 1333}
    checked = find_parts([recipe])[1].open()
    for samples in (judged, predicted, checked):
        assert samples.id2label == held_out.id2label == {label: f"class {label + 1}" for label in range(9)}
        assert all(same(one, other) for one, other in zip(samples, held_out, strict=True))
    (train, _) = opened_by(monkeypatch, "evaluate", "model", "--recipe", recipe, "--split", "train")
    assert len(train) == 4


def test_images_that_training_leaves_out_are_left_out(tmp_path, monkeypatch):
    small_trees.png_semantic(tmp_path / "data")
    image = next((tmp_path / "data/images/val").iterdir())
    shutil.copy(image, image.with_stem("more"))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"data: {{root: {tmp_path / 'data'}, format: png_semantic, on_error: skip}}\n"
        f"schedule: {{max_steps: 1}}\nrun: {{output_dir: {tmp_path / 'run'}}}"
    )
    samples, keywords = opened_by(monkeypatch, "evaluate", "model", "--recipe", str(recipe))
    assert (len(samples), keywords["skip_unreadable"]) == (1, True)
    label_map = tmp_path / "data/labels/val/more.png"
    assert samples.left_out == [f"{label_map}: there is no such file for the image images/val/more{image.suffix}."]
    with pytest.raises(RecipeError, match=r"data\.format=png_semantic: .*labels/val lacks the PNG files"):
        open_judged_data(recipe, None, None, "val", on_error="raise")


def test_addresses_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = f"memory://{tmp_path.name}"
    with fsspec.open(f"{folder}/val-0.parquet", "wb") as file:
        semantic_rows().to_parquet(file)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({number: f"class {number}" for number in range(1, 10)}))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(OF_ONE_SPLIT.split("  columns")[0].format(root="gone") + f"  categories: {names}\n"
                      "schedule: {max_steps: 1}\nrun: {output_dir: run}")  # fmt: skip
    address = f"{folder}/{{split}}-*.parquet"
    samples, _ = opened_by(monkeypatch, "evaluate", "model", "--data", address, "--recipe", str(recipe))
    assert (len(samples), samples.name) == (7, f"{address}[val]")
    with pytest.raises(RecipeError, match=r"^data\.root=memory://.*nothing says what the categories are called"):
        open_judged_data(None, address, None, "val")
    with pytest.raises(
        RecipeError, match=r"^data\.root=hf://datasets/u/n, data\.format=hugging_face: .*'u/n' on the Hub"
    ):
        open_judged_data(None, "hf://datasets/u/n", None, "val")
    with pytest.raises(RecipeError, match=r"root=hf://datasets/u/n is an address, .* not coco_panoptic"):
        open_judged_data(None, "hf://datasets/u/n", "coco_panoptic", "val")


def test_a_folder_and_its_format(scenes):
    samples, settings = open_judged_data(None, str(scenes), "coco_panoptic", "val")
    assert len(samples) == 3
    assert settings == {"tasks": ("panoptic", "instance", "semantic"), "skip_unreadable": False}


def test_the_format_of_a_folder_is_seen(tmp_path):
    small_trees.ade20k_semantic(tmp_path)
    samples, settings = open_judged_data(None, str(tmp_path), None, "val")
    assert (len(samples), settings["tasks"]) == (1, ("semantic",))
    with pytest.raises(RecipeError, match=r"data\.format=auto: .* of no known format for the split test\. Looked for"):
        open_judged_data(None, str(tmp_path), None, "test")


def test_a_recipe_says_data_sizes_and_thresholds(recipe, scenes):
    samples, settings = open_judged_data(recipe, None, None, "train")
    assert len(samples) == 8
    assert settings["size"] == {"shortest_edge": 64, "longest_edge": 80}
    assert settings["panoptic_threshold"] == 0.8
    assert settings["batch_size"] == 4
    assert settings["top_k"] == 100
    assert len(open_judged_data(recipe, str(scenes), "coco_panoptic", "val")[0]) == 3


def test_the_folder_of_a_run_brings_its_recipe(recipe, tmp_path, monkeypatch):
    run = tmp_path / "runs/mine"
    for folder in (run / "checkpoint", run / "checkpoint-best"):
        UniSegmentConfig().save_pretrained(folder)
        assert recipe_of_run(str(folder)) is None
    (run / "recipe.yaml").write_text(recipe.read_text())
    for place in (run, run / "checkpoint", run / "checkpoint-best"):
        assert recipe_of_run(str(place)) == run / "recipe.yaml"
        assert len(opened_by(monkeypatch, "evaluate", str(place))[0]) == 3
    assert recipe_of_run(str(run / "checkpoints")) is None


def test_without_anything_to_judge_by_it_says_so(tmp_path):
    small_trees.coco_instance(tmp_path)
    small_trees.only_crowds(tmp_path / "annotations" / "instances_val2017.json")
    assert len(open_judged_data(None, str(tmp_path), "coco_instance", "train")[0])
    with pytest.raises(RecipeError, match=r"nothing to judge by: none of the \d images of 'val' has a segment that"):
        open_judged_data(None, str(tmp_path), "coco_instance", "val")


def test_without_either_it_says_what_is_missing():
    with pytest.raises(RecipeError, match="--data FOLDER, or --recipe FILE"):
        open_judged_data(None, None, "coco_panoptic", "val")


def test_what_a_format_can_be_judged_on():
    assert tasks_of_format("cityscapes_semantic") == ("semantic",)
    assert tasks_of_format("coco_instance") == ("instance",)
    for panoptic in ("coco_panoptic", "synthetic"):
        assert tasks_of_format(panoptic) == ("panoptic", "instance", "semantic")
