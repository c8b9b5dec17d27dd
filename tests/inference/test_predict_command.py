# SPDX-License-Identifier: Apache-2.0
"""Whole predictions of a tiny model with random weights."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.data.export.checkers import check_coco_archives
from tests.training.test_assembly import RESNET, SMALL
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.cli import app
from unisegment.data.formats.synthetic import CATEGORIES, write_synthetic
from unisegment.runs.folder_lock import LOCK, locked

NAMES = {label: category.name for label, category in enumerate(reversed(CATEGORIES))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return scenes and a checkpoint with the same labels in reverse."""
    folder = tmp_path_factory.mktemp("prediction")
    write_synthetic(folder / "scenes", num_train=0, num_val=3, progress=False)
    torch.manual_seed(0)  # some weights find nothing
    model = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=RESNET, id2label=NAMES, **SMALL))
    model.save_pretrained(folder / "ours")
    processor = UniSegmentImageProcessor(size={"shortest_edge": 64, "longest_edge": 80}, stuff_label_ids=[0, 1, 2])
    processor.save_pretrained(folder / "ours")
    return folder


def command(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def test_a_folder_of_images(folder, tmp_path):
    arguments = folder / "ours", folder / "scenes" / "val", tmp_path / "out", "--to", "coco_test_dev", "--name", "a"
    result = command(*arguments, "--panoptic-threshold", 0)
    assert result.exit_code == 0, result.output
    assert "3 images, 3 of them new" in result.output
    # Names of COCO's kind are ids; labels of no known data set are numbered from 1.
    sizes = dict.fromkeys((1, 2, 3), (128, 160))
    check_coco_archives(tmp_path / "out", "a", tmp_path / "unpacked", sizes, set(range(1, 9)))
    assert "3 images, 0 of them new" in command(*arguments, "--panoptic-threshold", 0).output
    refused = command(*arguments)
    assert refused.exit_code == 1
    assert "panoptic_threshold=0.8 (before: 0.0)" in refused.output


def test_of_two_predictions_in_one_folder_the_second_is_told_who_is_there(folder, tmp_path):
    arguments = folder / "ours", folder / "scenes" / "val", tmp_path / "out"
    with locked(tmp_path / "out"):
        refused = command(*arguments)
        assert refused.exit_code == 1
        assert f"error: {tmp_path / 'out'} is in use by process {os.getpid()} on " in refused.stderr.splitlines()[-1]
        assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).write_text("a run that was killed")
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out" / LOCK).exists()


def test_a_data_set_gives_its_own_categories(folder, tmp_path):
    arguments = folder / "ours", folder / "scenes", tmp_path, "--format", "coco_panoptic", "--to", "label_png"
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    categories = json.loads((tmp_path / "categories.json").read_text())
    assert [(entry["id"], entry["name"]) for entry in categories] == [
        (category.id, category.name) for category in reversed(CATEGORIES)
    ]
    assert len(list((tmp_path / "labels").glob("*.png"))) == 3


def test_the_best_objects_are_written_and_it_is_said(folder, tmp_path, caplog):
    arguments = folder / "ours", folder / "scenes", tmp_path, "--format", "coco_panoptic", "--to", "coco_instance"
    result = command(*arguments, "--top-k", 1)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "detections_unisegment_results.json").read_text())
    assert len(found) == len({item["image_id"] for item in found})
    assert caplog.text.count("predictions have the 1 best of an image") == 1
    assert "top_k=100 (before: 1)" in command(*arguments).output


def test_a_model_that_knows_its_categories_writes_their_ids(folder, tmp_path):
    entries = [{"id": label, "name": name, "isthing": 1} for label, name in NAMES.items()]
    model = UniSegmentForUniversalSegmentation.from_pretrained(folder / "ours")
    model.config.categories = entries
    model.save_pretrained(tmp_path / "knows")
    UniSegmentImageProcessor.from_pretrained(folder / "ours").save_pretrained(tmp_path / "knows")
    for checkpoint in (folder / "ours", tmp_path / "knows"):
        result = command(checkpoint, folder / "scenes" / "val", tmp_path / checkpoint.name / "out", "--to", "label_png")
        assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "knows/out/categories.json").read_text())
    assert [(entry["id"], entry["name"]) for entry in written] == [*NAMES.items()]
    labels = [np.array(Image.open(path)) for path in sorted((tmp_path / "knows/out/labels").glob("*.png"))]
    numbered = [np.array(Image.open(path)) for path in sorted((tmp_path / "ours/out/labels").glob("*.png"))]
    assert [(label + 1).tolist() for label in labels] == [ids.tolist() for ids in numbered]


def test_an_unknown_format_is_one_line(folder, tmp_path):
    result = command(folder / "ours", folder / "scenes" / "val", tmp_path, "--to", "nonsense")
    assert result.exit_code == 2
    assert "error: Invalid value for '--to': 'nonsense' is not one of 'pictures'" in result.output


@pytest.mark.parametrize("to", ["coco_panoptic", "label_png", "coco_instance"])
def test_a_photograph_that_a_list_names_is_left_alone(folder, tmp_path, to):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (160, 128)).save(photo)
    before = photo.read_bytes()
    for name in (str(photo), "../../photo.png"):
        (tmp_path / "list.json").write_text(json.dumps({"images": [{"id": 1, "file_name": name}]}))
        (tmp_path / "images" / "sub").mkdir(parents=True, exist_ok=True)
        result = command(
            folder / "ours",
            tmp_path / "images" / "sub",
            tmp_path / "out",
            "--images",
            tmp_path / "list.json",
            "--to",
            to,
        )
        assert result.exit_code == 1
        assert "list.json is not in COCO's form of a list of images: images[0]: " in result.output
        assert len(result.output.splitlines()) == 1
        assert photo.read_bytes() == before
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--threshold", "nan"), 2, "error: Invalid value for '--threshold': nan is not from 0 to 1."),
        (("--threshold", "-1"), 2, "error: Invalid value for '--threshold': -1.0 is not from 0 to 1."),
        (("--threshold", "inf"), 2, "error: Invalid value for '--threshold': inf is not from 0 to 1."),
        (
            ("--panoptic-threshold", "nan"),
            2,
            "error: Invalid value for '--panoptic-threshold': nan is not from 0 to 1.",
        ),
        (
            ("--panoptic-threshold", "1.5"),
            2,
            "error: Invalid value for '--panoptic-threshold': 1.5 is not from 0 to 1.",
        ),
        (
            ("--name", "../x"),
            2,
            "error: Invalid value for '--name': The name of the algorithm is part of",
        ),
        (("--to", "label_png"), 1, "val holds other files, such as "),
    ],
)
def test_options_that_cannot_be(folder, tmp_path, words, status, said):
    output = tmp_path / "out" if words[0] != "--to" else folder / "scenes" / "val"
    before = sorted(folder.rglob("*"))
    result = command(folder / "ours", folder / "scenes" / "val", output, *words)
    assert (result.exit_code, said in result.output) == (status, True), result.output
    assert result.output.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    assert not (tmp_path / "out").exists()


@pytest.fixture
def photos(folder, tmp_path, monkeypatch):
    """A folder to work in, with two photographs in it and one in a folder."""
    monkeypatch.chdir(tmp_path)
    for scene, name in zip(
        sorted((folder / "scenes/val").glob("*.png")), ("a.png", "b.png", "more/c.png"), strict=True
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(scene).save(tmp_path / name)
    return tmp_path


def told(result):
    return [line for line in result.stdout.splitlines() if ".png" in line]


def test_one_photograph_without_a_folder_is_drawn_and_told_of_as_a_table(folder, photos):
    result = command(folder / "ours", "a.png", "--panoptic-threshold", 0)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("a.png, 160x128:\nlabel ")
    assert "predictions: 1 image, 1 of them new" in result.output
    with Image.open("predictions/a.png") as picture:
        assert picture.width / picture.height == 160 / 128
    (entry,) = json.loads((photos / "predictions/predictions.json").read_text())
    assert entry["picture"] == "a.png"
    # The same command goes on there; another one does not add to it, and replaces nothing.
    assert "predictions: 1 image, 0 of them new" in command(folder / "ours", "a.png", "--panoptic-threshold", 0).output
    assert "predictions-2: 1 image, 1 of them new" in command(folder / "ours", "b.png").output
    assert "predictions-2: 1 image, 0 of them new" in command(folder / "ours", "b.png").output


def test_files_folders_patterns_and_standard_input(folder, photos, monkeypatch):
    result = command(folder / "ours", "a.png", "more", "out")
    assert told(result) == [line for line in told(result) if line.startswith(("a.png, 160x128: ", "c.png, 160x128: "))]
    assert sorted(path.name for path in (photos / "out").glob("*.png")) == ["a.png", "c.png"]
    assert len(told(command(folder / "ours", "*.png"))) == 2
    piped = CliRunner().invoke(app, ["predict", str(folder / "ours"), "-", "piped"], input="b.png\n\nmore/c.png\n")
    assert "piped: 2 images, 2 of them new" in piped.output
    assert "Standard input names no image" in CliRunner().invoke(app, ["predict", str(folder / "ours"), "-"]).output


def test_json_goes_to_standard_output_alone(folder, photos):
    result = command(folder / "ours", "a.png", "b.png", "out", "--json", "--task", "semantic")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(entry["image"], entry["height"], entry["width"], entry["task"]) for entry in found] == [
        ("a.png", 128, 160, "semantic"),
        ("b.png", 128, 160, "semantic"),
    ]
    assert sum(segment["area"] for segment in found[0]["segments"]) == 128 * 160


def test_what_cannot_be_read_is_named_and_the_rest_is_done(folder, photos):
    (photos / "notes.png").write_text("hello")
    before = {path: path.read_bytes() for path in photos.glob("*.png")}
    result = command(folder / "ours", "*.png", "out")
    assert result.exit_code == 1
    assert "out: 2 images, 2 of them new" in result.output
    assert result.stderr.count("left out: notes.png cannot be read as an image") == 1
    assert {path: path.read_bytes() for path in photos.glob("*.png")} == before
    assert command(folder / "ours", "*.png", "out", "--on-error", "skip").exit_code == 0
    stopped = command(folder / "ours", "*.png", "other", "--on-error", "raise")
    assert stopped.exit_code == 1
    assert "error: notes.png cannot be read as an image" in stopped.stderr
    (photos / "more/notes.png").write_text("%PDF-1.7")
    for words, status, said in (
        (("notes.png", "x"), 1, "error: notes.png cannot be read as an image: it is in no format that Pillow reads"),
        (("notes.png", "more/notes.png", "x"), 1, "error: None of the 2 images can be read. notes.png cannot be"),
        (("missing.jpg",), 1, "missing.jpg does not exist"),
        (("a.png", "b.png"), 2, "the folder for the results, but b.png is not a folder"),
        (("*.jpg",), 1, "No file matches *.jpg"),
        (("a.png", "out", "--threshold", "2"), 2, "2.0 is not from 0 to 1"),
        (("a.png", "x", "--device", "warp"), 1, "device='warp' cannot be used here"),
        (("quickstart", "a.png", "x"), 2, "One data set is segmented at a time"),
    ):
        refused = command(folder / "ours", *words)
        assert refused.exit_code == status, refused.output
        assert said in " ".join(refused.stderr.split()), refused.stderr


def test_a_limit_and_a_size(folder, photos):
    assert "out: 1 image" in command(folder / "ours", "*.png", "out", "--limit", 1, "--size", 64).output
    assert json.loads((photos / "out/parts/settings.json").read_text())["size"]["shortest_edge"] == 64


def test_other_weights_do_not_go_on_in_a_folder(folder, photos):
    model = UniSegmentForUniversalSegmentation.from_pretrained(folder / "ours")
    model.save_pretrained("model")
    assert command("model", "a.png", "out").exit_code == 0
    assert "0 of them new" in command("model", "a.png", "out").output
    next(model.parameters()).data += 1
    model.save_pretrained("model")
    refused = command("model", "a.png", "out")
    assert refused.exit_code == 1
    assert "differs in other weights: choose another folder" in refused.output
    # A folder of an earlier version, which did not write them.
    settings = photos / "out/parts/settings.json"
    settings.write_text(
        json.dumps({key: value for key, value in json.loads(settings.read_text()).items() if key != "weights"})
    )
    assert "0 of them new" in command("model", "a.png", "out").output
