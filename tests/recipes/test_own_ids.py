# SPDX-License-Identifier: Apache-2.0
"""A folder as CamVid's: ids from 0, void 11, no names in it. Nothing is rewritten, and ids come back as they were."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.training.tiny_run import RECIPE
from unisegment.checking import check_data
from unisegment.checking.sources import find_parts
from unisegment.data.image_sources import ImageFolder
from unisegment.inference import evaluate, export_predictions, match_data_set, open_predictor
from unisegment.runs.data_opening import open_evaluation_data
from unisegment.training import fit

COLORS = {0: (90, 140, 230), 3: (120, 120, 120), 5: (30, 130, 40), 11: (0, 0, 0)}
NAMES = "sky building pole road pavement tree sign fence car pedestrian bicyclist".split()
SIZE = (53, 67)


def _write(root):
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for number in range(count):
            labels = np.zeros(SIZE, np.uint8)
            labels[int(generator.integers(20, 33)) :] = 3
            left = int(generator.integers(0, 40))
            labels[10:40, left : left + 23] = 5
            labels[-3:] = 11
            noise = generator.integers(-9, 9, (*SIZE, 3))
            colors = np.array([COLORS.get(label, (0, 0, 0)) for label in range(12)])[labels] + noise
            for folder, pixels in (("images", colors.clip(0, 255)), ("labels", labels)):
                file = root / folder / split / f"{split}{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(file)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    _write(root / "data")
    recipe = root / "recipe.yaml"
    recipe.write_text(RECIPE.format(root=root / "data", output=root / "run"))
    settings = {
        "data.format": "png_semantic", "data.categories": NAMES, "data.void_ids": [11], "schedule.max_steps": 30,
        "schedule.name": "constant", "optim.lr": 3e-3, "optim.backbone_lr_factor": 1.0,
        "model.config.freeze_backbone_norm": False,
    }  # fmt: skip
    before = {file: file.read_bytes() for file in (root / "data").rglob("*.*")}
    parts = find_parts([str(recipe)], overrides={name: settings[name] for name in settings if name[:4] == "data"})
    report = check_data(parts, root / "check", workers=1, pictures=0, progress=False)
    fit(recipe, **settings)
    assert {file: file.read_bytes() for file in (root / "data").rglob("*.*")} == before
    return root, report


def test_the_check_finds_nothing_but_categories_that_do_not_occur(run):
    _, report = run
    assert {finding["kind"] for part in report.parts for finding in part["findings"]} == {"unused-category"}
    (void,) = {part["unlabelled_share"] for part in report.parts}
    assert void == pytest.approx(3 / 53)


def test_predictions_have_the_ids_of_the_annotation(run):
    root, _ = run
    predictor = open_predictor(root / "run/checkpoint")
    export_predictions(predictor, ImageFolder(root / "data/images/val"), root / "out", "label_png")
    listed = json.loads((root / "out/categories.json").read_text())
    assert [(entry["id"], entry["name"]) for entry in listed] == list(enumerate(NAMES))
    right = total = 0
    for number in range(3):
        predicted, true = (
            np.asarray(Image.open(root / folder / f"val{number}.png")) for folder in ("out/labels", "data/labels/val")
        )
        right += int((predicted == true)[true != 11].sum())
        total += int((true != 11).sum())
    assert right > 0.8 * total


def test_the_recipe_is_enough_to_evaluate_by(run):
    root, _ = run
    samples, settings = open_evaluation_data(root / "run/recipe.yaml", None, None, "val")
    predictor = open_predictor(root / "run/checkpoint", **settings.of_predictor)
    report = evaluate(*match_data_set(predictor, samples), tasks=settings.tasks)
    assert report["semantic"]["pixel_accuracy"] > 0.8
