# SPDX-License-Identifier: Apache-2.0
"""One door to the data of a recipe: a finished model is evaluated on what its training held out, by every command."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import datasets
import fsspec
import pytest
from typer.testing import CliRunner

from tests.checking.data_sets import WRITERS
from tests.data.rows import same, semantic_rows
from tests.recipes import small_trees
from unisegment import UniSegmentConfig, UniSegmentImageProcessor, cli, segmenter
from unisegment.checking.opening import open_part
from unisegment.checking.sources import find_parts
from unisegment.data.problems import CollectedProblems
from unisegment.inference.images import leave_out
from unisegment.ops import weight_sources
from unisegment.runs import data_opening
from unisegment.runs.data_opening import (
    EvaluationSettings,
    data_named,
    open_evaluation_data,
    open_split,
    with_format,
)
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.recipe import load_recipe
from unisegment.runs.run_folder import recipe_of_run
from unisegment.runs.settings import RecipeError
from unisegment.training.assembly import open_samples

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
    opened = SimpleNamespace(task="panoptic", processor=UniSegmentImageProcessor())
    monkeypatch.setattr(
        segmenter, "open_predictor", lambda checkpoint, **given: SimpleNamespace(keywords=given, **vars(opened))
    )
    monkeypatch.setattr(segmenter.Segmenter, "_predictor", lambda self, threshold: self.predictor)
    monkeypatch.setattr(segmenter, "match_data_set", lambda *both, **_: both)
    for name in ("evaluate", "export_predictions"):
        monkeypatch.setattr(
            segmenter,
            name,
            lambda opened, samples, *_, **keywords: seen.append((samples, opened.keywords | keywords)),
        )
    monkeypatch.setattr(weight_sources, "find_checkpoint", lambda checkpoint: checkpoint)
    CliRunner().invoke(cli.app, words)
    return seen[0]


def test_every_command_opens_the_rows_that_training_holds_out(rows_of_one_split, monkeypatch):
    recipe = str(rows_of_one_split)
    _, held_out = open_samples(load_recipe(recipe).data)
    assert len(held_out) == 3
    evaluated, keywords = opened_by(monkeypatch, "evaluate", "model", "--recipe", recipe)
    assert keywords["size"] == {"shortest_edge": 800, "longest_edge": 1333}
    predicted, keywords = opened_by(monkeypatch, "predict", "model", recipe, "out")
    assert keywords["size"] == {"shortest_edge": 800, "longest_edge": 1333}
    checked = open_part(find_parts([recipe])[1], CollectedProblems()).samples
    for samples in (evaluated, predicted, checked):
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
    assert (len(samples), keywords["on_unreadable"]) == (1, leave_out)
    label_map = tmp_path / "data/labels/val/more.png"
    advice = "add it, or take the image away."
    assert samples.left_out == [f"{label_map}: there is no such file for the image {image.with_stem('more')}: {advice}"]
    with pytest.raises(RecipeError, match=r"data\.format=png_semantic: .*more\.png: there is no such file"):
        open_evaluation_data(recipe, None, None, "val", on_error="raise")


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
    samples, _ = opened_by(monkeypatch, "evaluate", "model", address, "--recipe", str(recipe))
    assert (len(samples), samples.name) == (7, f"{address}[val]")
    with pytest.raises(RecipeError, match=r"^data\.root=memory://.*nothing says what the categories are called"):
        open_evaluation_data(None, address, None, "val")
    with pytest.raises(
        RecipeError, match=r"^data\.root=hf://datasets/u/n, data\.format=hugging_face: .*'u/n' on the Hub"
    ):
        open_evaluation_data(None, "hf://datasets/u/n", None, "val")
    with pytest.raises(RecipeError, match=r"root=hf://datasets/u/n is an address, .* not coco_panoptic"):
        open_evaluation_data(None, "hf://datasets/u/n", "coco_panoptic", "val")


def test_a_folder_and_its_format(scenes):
    samples, settings = open_evaluation_data(None, str(scenes), "coco_panoptic", "val")
    assert len(samples) == 3
    assert settings == EvaluationSettings(("panoptic", "instance", "semantic"), skip_unreadable=False)
    assert settings.of_predictor == {"size": None, "panoptic_threshold": 0.8, "top_k": 100}


def test_the_format_of_a_folder_is_seen(tmp_path):
    small_trees.ade20k_semantic(tmp_path)
    samples, settings = open_evaluation_data(None, str(tmp_path), None, "val")
    assert (len(samples), settings.tasks) == (1, ("semantic",))
    with pytest.raises(RecipeError, match=r"data\.format=auto: .* of no known format for the split test\. Looked for"):
        open_evaluation_data(None, str(tmp_path), None, "test")


def test_a_recipe_says_data_sizes_and_thresholds(recipe, scenes):
    samples, settings = open_evaluation_data(recipe, None, None, "train")
    assert len(samples) == 8
    assert settings.size == {"shortest_edge": 64, "longest_edge": 80}
    assert settings.panoptic_threshold == 0.8
    assert settings.batch_size == 4
    assert settings.top_k == 100
    assert len(open_evaluation_data(recipe, str(scenes), "coco_panoptic", "val")[0]) == 3


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


def test_without_anything_to_evaluate_on_it_says_so(tmp_path):
    small_trees.coco_instance(tmp_path)
    small_trees.only_crowds(tmp_path / "annotations" / "instances_val2017.json")
    assert len(open_evaluation_data(None, str(tmp_path), "coco_instance", "train")[0])
    with pytest.raises(RecipeError, match=r"nothing to evaluate on: none of the \d images of 'val' has a segment that"):
        open_evaluation_data(None, str(tmp_path), "coco_instance", "val")


def test_without_either_it_says_what_is_missing():
    with pytest.raises(RecipeError, match="CHECKPOINT DATA, or --recipe FILE"):
        open_evaluation_data(None, None, "coco_panoptic", "val")


def test_every_option_of_the_reader_reaches_it(monkeypatch):
    seen = []
    monkeypatch.setattr(data_opening, "open_data_set", lambda *words, **options: seen.append((*words, options)))
    options = {"columns": {"image": "photo"}, "categories": "names.json", "splits": {"train": "a", "val": "b"}}
    data = DataRecipe(root="hf://datasets/user/cows", format="hugging_face", streaming=True, **options)
    open_split(data, "val")
    assert seen[0][:3] == ("hf://datasets/user/cows", "hugging_face", "val")
    assert seen[0][3].items() >= {**options, "streaming": True}.items()


def test_errors_name_the_keys():
    data = DataRecipe(root="/nope", format="png_semantic")
    for skips in ("raise", "skip"):
        with pytest.raises(FileNotFoundError, match=r"^/nope does not exist\.$"):
            open_split(replace(data, on_error=skips), "train")
    said = r"^data\.root=/nope, data\.format=png_semantic: /nope does not exist\.$"
    with pytest.raises(RecipeError, match=said), data_named(data):
        open_split(data, "train")


def test_a_format_that_is_not_named_is_that_of_the_folder(tmp_path):
    data = DataRecipe(root=str(tmp_path), workers=3, categories=["sky"])
    with pytest.raises(RecipeError, match=r"^data\.root=\S+, data\.format=auto: \S+ has the layout of no known format"):
        with_format(data)
    WRITERS["png_semantic"](tmp_path)
    named = with_format(data, ("train",))
    assert named == replace(data, format="png_semantic")
    assert with_format(named) is named
    assert open_split(replace(data, categories=None), "val").categories[2].name == "grass"
    with pytest.raises(RecipeError, match=r"streaming is for format=hugging_face, but format=png"):
        with_format(replace(data, streaming=True))


def test_the_format_is_seen_by_what_a_split_is_taken_from(tmp_path):
    WRITERS["coco_instance"](tmp_path)
    (tmp_path / "val").rename(tmp_path / "gone")
    data = DataRecipe(root=str(tmp_path), val_share=0.25)
    assert with_format(data, ["val"]).format == "coco_instance"
    assert len(open_split(data, "val")) == 1
    with pytest.raises(RecipeError, match="no known format for the split val"):
        with_format(DataRecipe(root=str(tmp_path)), ["val"])
