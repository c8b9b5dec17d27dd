# SPDX-License-Identifier: Apache-2.0
"""The same object has the same label in training and held-out images, and in a run that goes on, whatever the files."""

import json

import pytest

from tests.checking.data_sets import coco_instance, edit_json
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.settings import RecipeError
from unisegment.structures import Category
from unisegment.training import dry_run, fit
from unisegment.training.assembly import open_samples
from unisegment.training.state_files import read_categories

VAL = "annotations/instances_val.json"


@pytest.fixture
def data(tmp_path):
    coco_instance(tmp_path)
    return DataRecipe(root=str(tmp_path), format="coco_instance")


def rename(root, file, names):
    def change(content):
        for entry in content["categories"]:
            entry["name"] = names.get(entry["name"], entry["name"])

    edit_json(root / file, change)


def without_cows(content):
    content["categories"] = content["categories"][1:]
    content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] != 1]


def labels_of(samples):
    return [sample.target.labels.tolist() for sample in samples]


def test_categories_of_the_splits_are_matched_by_name(data, tmp_path):
    train, held_out = open_samples(data)
    assert (labels_of(train), labels_of(held_out)) == ([[0, 1, 2]] * 4, [[0, 1, 2]] * 2)
    # The ids of cow and dog are swapped: what was a cow is a dog.
    rename(tmp_path, VAL, {"cow": "Dog", "dog": "cow"})
    train, held_out = open_samples(data)
    assert (labels_of(train), labels_of(held_out)) == ([[0, 1, 2]] * 4, [[1, 0, 2]] * 2)
    assert held_out.id2label == train.id2label == {0: "cow", 1: "dog", 2: "grass"}


def test_held_out_images_need_not_have_all_categories(data, tmp_path):
    edit_json(tmp_path / VAL, without_cows)
    train, held_out = open_samples(data)
    assert labels_of(held_out) == [[1, 2]] * 2
    assert held_out.id2label == train.id2label


def test_a_category_that_was_not_learned_is_an_error_with_both_lists(data, tmp_path):
    rename(tmp_path, VAL, {"cow": "calf"})
    with pytest.raises(
        RecipeError,
        match=r"'train' \(.*instances_train\.json\) lacks 1 of the 3 labels of the split 'val' "
        r"\(.*instances_val\.json\): 'calf'\. .* has 'cow', 'dog', 'grass'; .* has 'calf', 'dog', 'grass'\. Give both",
    ):
        open_samples(data)


def test_a_run_that_goes_on_keeps_its_labels(data, tmp_path):
    names = ("grass", "cow", "sheep", "dog")
    file = tmp_path / "state" / "categories.json"
    assert read_categories(file.parent) is read_categories(None) is None
    file.parent.mkdir()
    entries = [{"id": number, "name": name, "isthing": 1} for number, name in enumerate(names)]
    file.write_text(json.dumps(entries))
    categories = read_categories(file.parent)
    assert categories[2] == Category(2, "sheep", True, (128, 128, 128))
    train, held_out = open_samples(data, categories)
    assert (labels_of(train), labels_of(held_out)) == ([[1, 3, 0]] * 4, [[1, 3, 0]] * 2)
    assert train.categories == held_out.categories == categories
    with pytest.raises(RecipeError, match=r"The state .* lacks 1 of the 3 labels of .*: 'dog'\. .*run\.output_dir"):
        open_samples(data, categories[:3])


def test_other_classes_end_a_run_before_anything_is_touched(recipe, tmp_path):
    settings = {"schedule.max_steps": 1, "run.checkpoint_every": 1}
    fit(recipe, **settings)
    (tmp_path / "run" / "metrics.json").unlink()
    config = json.loads((tmp_path / "run" / "checkpoint" / "config.json").read_text())
    state = tmp_path / "run" / "checkpoints" / "step-000001" / "categories.json"
    categories = json.loads(state.read_text())
    assert categories == config["categories"]
    assert [(entry["id"], entry["name"], entry["isthing"]) for entry in categories][::7] == [
        (1, "disc", 1),
        (8, "soil", 0),
    ]
    state.write_text(json.dumps([{**entry, "name": entry["name"] + "s"} for entry in categories]))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    for start in (dry_run, fit):
        with pytest.raises(RecipeError, match="lacks 8 of the 8 labels of the split 'train'"):
            start(recipe, **settings)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    # The same classes in another order.
    state.write_text(json.dumps(categories[::-1]))
    fit(recipe, **settings)
    config = json.loads((tmp_path / "run" / "checkpoint" / "config.json").read_text())
    assert config["categories"] == categories[::-1]
    assert config["id2label"]["7"] == "disc"
