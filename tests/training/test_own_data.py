# SPDX-License-Identifier: Apache-2.0
"""Training on a folder: the recipe that is made for it, and whole runs by it."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from tests.checking.data_sets import WRITERS
from tests.data.rows import semantic_rows, write_names
from tests.training.test_assembly import RESNET, SMALL
from tests.training.tiny_run import breaking_off, log_of
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.runs.recipe import load_recipe
from unisegment.runs.settings import RecipeError
from unisegment.training import data_recipe, fit_data, own_data

METRICS = {"coco_panoptic": "pq", "coco_instance": "mask_ap", "png_instance": "mask_ap", "png_semantic": "miou"}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A tiny checkpoint that knows cows, and what no data set here has."""
    folder = tmp_path_factory.mktemp("start")
    config = UniSegmentConfig(backbone_config=RESNET, id2label={0: "boat", 1: "cow"}, **SMALL)
    UniSegmentForUniversalSegmentation(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("data_format", WRITERS)
def test_a_recipe_is_made_for_each_format(tmp_path, start, data_format):
    root = tmp_path / "my cows"
    WRITERS[data_format](root)
    scratch, tuned = data_recipe(root), data_recipe(root, start=start)
    for recipe in (scratch, tuned):
        assert (recipe.data.root, recipe.data.format) == (str(root), data_format)
        assert (recipe.run.best_metric, recipe.run.output_dir) == (METRICS[data_format], "runs/my-cows")
    assert (scratch.model.pretrained, scratch.model.config["hidden_dim"], scratch.optim.lr) == (None, 64, 8e-4)
    base = load_recipe(f"own_data_{data_format.partition('_')[2]}")
    assert (tuned.model.pretrained, tuned.model.config, tuned.optim.lr) == (str(start), {}, base.optim.lr)
    assert tuned.data.transform.drop_empty == base.data.transform.drop_empty
    # The shorter sides of the images are 29, 23, 41 and 37.
    assert (scratch.data.shortest_edge, tuned.data.shortest_edge) == (64, 96)
    assert scratch.data.transform.jitter_size == (64, 64)
    assert (tuned.data.transform.jitter_size or tuned.data.transform.crop_size) == (96, 96)
    assert tuned.data.longest_edge == -(-base.data.longest_edge * 96 // base.data.shortest_edge)


def test_few_images_are_seen_more_often(tmp_path, start, monkeypatch):
    WRITERS["png_semantic"](tmp_path)

    def lengths(**settings):
        recipe = data_recipe(tmp_path, **settings)
        schedule, run = recipe.schedule, recipe.run
        return schedule.max_steps, schedule.epochs, schedule.warmup_steps, run.checkpoint_every, run.eval_every

    assert lengths() == (10_000, None, 0, 500, 1000)
    assert lengths(start=start) == (3000, None, 100, 500, 500)
    assert lengths(start=start, epochs=100) == (None, 100, 5, 10, 10)
    assert lengths(start=start, epochs=0.1) == (None, 0.1, 0, 1, 1)
    assert lengths(start=start, **{"schedule.max_steps": 70, "run.eval_every": 0}) == (70, None, 7, 14, 0)
    # 50 epochs of four images, one by one, are fewer than the steps of the recipe; of 400 they are more.
    assert lengths(start=start, **{"optim.batch_size": 1, "optim.accumulation": 1})[0] == 3000
    for name in "abcd":
        for number in range(100):
            for folder, ending in (("images", "jpg"), ("labels", "png")):
                file = tmp_path / folder / "train" / f"{name}.{ending}"
                file.with_stem(f"{name}{number}").symlink_to(file)
    assert lengths(start=start, **{"optim.batch_size": 4})[0] == 5050
    assert lengths(**{"optim.batch_size": 4})[0] == 10_100


def test_what_is_given_goes_before_what_is_found(tmp_path):
    WRITERS["coco_panoptic"](tmp_path)
    keys = {"data.workers": 3, "data.shortest_edge": 99, "run.precision": "bf16", "run.best_metric": "miou"}
    recipe = data_recipe(tmp_path, output_dir="mine", **keys, **{"model.config.num_queries": 7})
    assert (recipe.data.workers, recipe.data.shortest_edge, recipe.run.precision) == (3, 99, "bf16")
    assert (recipe.run.best_metric, recipe.run.output_dir, recipe.model.config["num_queries"]) == ("miou", "mine", 7)


def test_the_machine_says_how_it_computes(tmp_path, start, monkeypatch):
    WRITERS["coco_instance"](tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    def found(gibibytes=None, processes=1):
        with monkeypatch.context() as patched:
            patched.setenv("WORLD_SIZE", str(processes))
            patched.setattr(torch.cuda, "is_available", lambda: gibibytes is not None)
            memory = SimpleNamespace(total_memory=(gibibytes or 0) * 2**30)
            patched.setattr(torch.cuda, "get_device_properties", lambda device: memory)
            recipe = data_recipe(tmp_path, start=start)
        return recipe.run.precision, recipe.optim.batch_size, recipe.optim.accumulation, recipe.data.workers

    assert found() == ("no", 8, 2, 2)
    assert found(8) == ("bf16", 8, 2, 2)
    assert found(12) == ("bf16", 8, 1, 2)
    assert found(8, processes=3) == ("bf16", 9, 1, 2)


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("data/mine/", "mine"), ("user/cows:big@main", "cows"), ("hf://datasets/user/cows", "cows"),
        ("s3://store/cows/{split}-*.parquet", "cows"), ("/", "data"), ("a b!/ü", "ü"),
    ],
)  # fmt: skip
def test_the_folder_of_a_run_is_called_as_the_data_set(root, name):
    assert own_data._name(root) == name


def test_rows_are_learned_from_by_what_they_hold(tmp_path):
    semantic_rows().save_to_disk(tmp_path)
    write_names(tmp_path)
    recipe = data_recipe(tmp_path, **{"data.splits": {"train": "train[:4]", "val": "train[4:]"}})
    assert (recipe.data.format, recipe.run.best_metric) == ("hugging_face", "miou")


TINY = {
    "optim.batch_size": 2, "optim.accumulation": 1, "run.threads": 1, "data.workers": 0, "evaluation.pictures": 1,
}  # fmt: skip


def test_a_checkpoint_is_trained_further_and_goes_on_after_an_interruption(tmp_path, start, capsys):
    WRITERS["coco_panoptic"](tmp_path / "data")

    def train(folder):
        return fit_data(tmp_path / "data", start=start, epochs=2.5, output_dir=tmp_path / folder, **TINY)

    with breaking_off(4, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        train("run")
    assert "2.5 epochs of 4 images in batches of 2: 5 steps." in capsys.readouterr().out
    found, unbroken = train("run"), train("other")
    said = capsys.readouterr().out
    assert f"Continuing from {tmp_path}/run/checkpoints/step-000003." in said
    assert "Changed" not in said
    assert (found.folder, found.metrics["step"], found.metrics["task"]) == (tmp_path / "run", 5, "panoptic")
    assert log_of(found.folder) == log_of(unbroken.folder)
    assert json.loads((found.folder / "metrics.json").read_text()) == found.metrics
    model = UniSegmentForUniversalSegmentation.from_pretrained(found.folder / "checkpoint")
    assert [*model.config.id2label.values()] == ["cow", "dog", "grass"]
    written = load_recipe(found.folder / "recipe.yaml")
    assert (written.data.format, written.schedule.max_steps, written.schedule.epochs) == ("coco_panoptic", 5, None)


@pytest.mark.parametrize("data_format", ["coco_instance", "png_semantic"])
def test_a_small_model_learns_from_nothing(tmp_path, data_format):
    WRITERS[data_format](tmp_path / "data")
    small = {"model.config.decoder_layers": 2, "model.config.train_num_points": 112, **TINY}
    folder, metrics = fit_data(tmp_path / "data", epochs=0.5, output_dir=tmp_path / "run", **small)
    assert (metrics["step"], metrics["task"]) == (1, data_format.partition("_")[2])
    assert metrics[METRICS[data_format]] is not None
    assert len([*(folder / "predictions").iterdir()]) == 1


def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(tmp_path, start):
    root = tmp_path / "data"
    for words, said in (
        ({}, r"data\.root=\S+, data\.format=auto: \S+ does not exist"),
        ({"start": tmp_path / "gone"}, r"model\.pretrained=\S+gone: .* does not exist"),
        ({"format": "voc"}, r"data\.format must be one of auto, coco_panoptic, .*, got 'voc'"),
        ({"epochs": 0}, r"epochs must be a number of more than 0, got 0"),
        ({"epochs": 2, "schedule.max_steps": 3}, r"either max_steps or epochs .* got 3 and 2\.0"),
        ({"optim.learning": 1}, r"there is no key 'optim\.learning'"),
    ):
        with pytest.raises(RecipeError, match=said):
            fit_data(root, output_dir=tmp_path / "run", **words)
    WRITERS["png_instance"](root)
    shutil.rmtree(root / "images/val")
    with pytest.raises(
        RecipeError, match=r"has no split 'val' of .* Hold some of the images of 'train' out: data\.val_share=0\.1"
    ):
        fit_data(root, output_dir=tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()
