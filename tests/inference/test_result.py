# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.reads_colours import SAMPLES, ReadsColours, make_processor, only_semantic
from unisegment.files import WriteError
from unisegment.inference.predictor import Predictor
from unisegment.inference.result import Result, results_of
from unisegment.visualization import draw_errors

NAMES = {0: "disc", 1: "ring", 2: "sky"}


@pytest.fixture
def result():
    predictor = Predictor(ReadsColours(), make_processor(num_labels=None, id2label=NAMES))
    ((batch, outputs),) = predictor.stream(SAMPLES, [0])
    return Result(batch[0], outputs, predictor)


def test_predictions_are_made_when_they_are_asked_for_and_once(result, monkeypatch):
    assert result.predictor.model.batches == [1]
    assert result.panoptic is result.panoptic
    assert result.instance is result.instance
    assert result.semantic is result.semantic
    assert result.predictor.model.batches == [1]
    sizes = {tuple(found.segmentation.shape) for found in (result.panoptic, result.instance, result.semantic)}
    assert sizes == {SAMPLES[0].size}
    assert np.array_equal(result.image, SAMPLES[0].image)
    assert (result.name, result.task) == ("folder/0.png", "panoptic")


def test_a_task_a_prediction_or_that_of_the_labels(result):
    assert result.of() is result.panoptic
    assert result.of("instance") is result.instance
    chosen = result.panoptic.filter(labels="sky")
    assert result.of(chosen) is chosen
    with pytest.raises(ValueError, match="one of panoptic, instance, semantic, got 'boxes'"):
        result.draw("boxes")


@pytest.mark.filterwarnings("ignore:OpenCV:UserWarning", "ignore::DeprecationWarning")
def test_drawn_measured_listed_and_printed(result):
    assert isinstance(result.draw("semantic"), Image.Image)
    chosen = result.panoptic.filter(labels="sky")
    assert np.array_equal(np.asarray(result.draw(chosen)), np.asarray(result.draw(chosen)))
    assert [entry["label"] for entry in result.measure(chosen)] == ["sky"]
    areas = {entry["id"]: entry["area"] for entry in result.measure()}
    ids, counts = result.panoptic.segmentation.unique(return_counts=True)
    assert areas == {int(index): int(count) for index, count in zip(ids, counts, strict=True) if index}
    assert len(result.polygons("instance", tolerance=1.0)) == len(result.instance.segments_info) > 0
    ids_in_files = {category.id for category in result.predictor.categories}
    for entry in json.loads(json.dumps(result.to_coco("instance"))):
        assert entry["image_id"] == 0
        assert entry["category_id"] in ids_in_files
    assert {entry["image_id"] for entry in result.to_coco(image_id="photo")} == {"photo"}
    assert len(result.to_supervision("instance")) == len(result.instance.segments_info)
    assert str(result).startswith("folder/0.png: 52x36\n")
    assert "sky" in str(result)


def test_errors_are_those_of_the_prediction(result):
    target = SAMPLES[0].target
    for task, labels in (("panoptic", None), ("semantic", None), ("instance", [0, 1])):
        expected = draw_errors(result.image, result.of(task), target, NAMES, labels=labels, min_side=90)
        assert np.array_equal(np.asarray(result.draw_errors(target, task, min_side=90)), np.asarray(expected))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("https://host/", "image"),
        ("x/a.b.jpg", "a.b"),
        ("a/", "image"),
        ("x" * 300 + ".png", "x" * 150),
        ("a\0b", "ab"),
    ],
)
def test_files_of_every_name_are_in_the_folder(result, name, stem, tmp_path):
    named = replace(result, item=result.item._replace(image=replace(result.item.image, file_name=name)))
    files = named.save(tmp_path / "out")
    assert [file.name for file in files] == [f"{stem}_overlay.png", f"{stem}_panoptic.png", f"{stem}_panoptic.json"]
    assert sorted(files) == sorted(tmp_path.rglob("*.*"))


def test_saved_as_picture_map_and_json(result, tmp_path):
    files = result.save(tmp_path / "out")
    assert [file.name for file in files] == ["0_overlay.png", "0_panoptic.png", "0_panoptic.json"]
    ids = np.asarray(Image.open(files[1])).astype(int) @ [1, 256, 65536]
    assert torch.equal(torch.from_numpy(ids), result.panoptic.segmentation.long())
    saved = json.loads(files[2].read_text())["segments_info"]
    assert [info["label"] for info in saved] == [info["label"] for info in result.panoptic.segments_info]
    assert result.save(tmp_path / "out", "semantic")[2].name == "0_semantic.json"
    (tmp_path / "file").touch()
    with pytest.raises(WriteError):
        result.save(tmp_path / "file")


def test_an_image_that_the_model_sees_in_parts_keeps_all_of_them():
    predictor, plain = Predictor(ReadsColours(), only_semantic()), Predictor(ReadsColours(), make_processor())
    ((batch, outputs),) = predictor.stream(SAMPLES, [0, 1], batch_size=2)
    assert predictor.model.batches == [4]
    results = list(results_of(batch, outputs, predictor, 0.5))
    ((others, other_outputs),) = plain.stream(SAMPLES, [0, 1], batch_size=2)
    for result, expected in zip(results, plain.semantic(others, other_outputs), strict=True):
        assert len(result.outputs.image_sizes) == 2
        assert torch.equal(result.of().segmentation, expected.segmentation)
        assert result.task == "semantic"
        assert isinstance(result.draw(), Image.Image)
