# SPDX-License-Identifier: Apache-2.0
import json
import os
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from accelerate import PartialState
from PIL import Image
from torch import nn

from tests.broken_off import break_off
from tests.data.export.checkers import check_coco_panoptic
from tests.inference.reads_colours import SAMPLES, ReadsColours, make_predictor, only_semantic
from tests.pretended_device import DEVICE, Record
from tests.two_processes import run_in_two_processes
from unisegment.data.export import EXPORT_FORMATS, ExportFormat
from unisegment.data.image_sources import ImageFolder
from unisegment.inference.export_run import export_predictions, weights_digest
from unisegment.inference.images import leave_out
from unisegment.inference.picture_export import pictures_of
from unisegment.inference.predictor import Predictor
from unisegment.runs.part_folder import OtherRunError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for number, sample in enumerate(SAMPLES):
        Image.fromarray(sample.image).save(tmp_path / "images" / ("sub" if number % 2 else "") / f"{number}.png")
    return tmp_path / "images"


def run(folder, output, to="coco_test_dev", predictor=None, **keywords):
    return export_predictions(predictor or make_predictor(), ImageFolder(folder), output, to, **keywords)


def parts_of(output):
    """What finished images left behind, in the order of their names."""
    files = {*(output / "parts").glob("*.json")} - {output / "parts" / "settings.json"}
    return sorted(files, key=lambda file: json.loads(file.read_text())["name"])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_images_are_written(folder, tmp_path):
    assert run(folder, tmp_path / "out", "coco_panoptic", batch_size=2) == {
        "images": 6, "new": 6, "unreadable_images": [],
    }  # fmt: skip
    name = tmp_path / "out" / "panoptic_unisegment_results"
    images = ImageFolder(folder)
    sizes = {images[number].image_id: images[number].size for number in range(6)}
    check_coco_panoptic(name.with_suffix(".json"), name, sizes, {11, 20, 30})
    assert (name / "sub" / "3.png").exists()


@pytest.mark.parametrize("call", [1, 2, 5, 9, 17, 24, 25, 27])
def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_files(folder, tmp_path, monkeypatch, call):
    run(folder, tmp_path / "unbroken")
    with monkeypatch.context() as patched:
        break_off(patched, call)
        try:
            run(folder, tmp_path / "broken", batch_size=2)
        except KeyboardInterrupt:
            assert contents(tmp_path / "broken") != contents(tmp_path / "unbroken")
    predictor = make_predictor()
    finished = len(parts_of(tmp_path / "broken"))
    summary = run(folder, tmp_path / "broken", predictor=predictor)
    assert summary["images"] == 6
    assert summary["new"] == sum(predictor.model.batches) == 6 - finished
    found = {name: content for name, content in contents(tmp_path / "broken").items() if "partial~" not in name.name}
    assert found == contents(tmp_path / "unbroken")


def run_in_process(rank, folder, output):
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    os.environ.update(dict(zip(names, map(str, (rank, rank, 2, 2)), strict=True)))
    PartialState._reset_state()
    PartialState(cpu=True)
    return run(folder, output)


def test_two_processes_finish_what_one_began(folder, tmp_path):
    run(folder, tmp_path / "alone")
    run(folder, tmp_path / "shared")
    for part in parts_of(tmp_path / "shared")[::2]:
        part.unlink()
    work = partial(run_in_process, folder=folder, output=tmp_path / "shared")
    summaries = run_in_two_processes(work, tmp_path)
    assert summaries == [{"images": 6, "new": 3, "unreadable_images": []}] * 2
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_a_damaged_image_raises_or_is_left_out_and_tried_again(folder, tmp_path):
    run(folder, tmp_path / "whole")
    damaged = folder / "2.png"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:100])
    with pytest.raises(ValueError, match=r"2\.png cannot be read"):
        run(folder, tmp_path / "out")
    summary = run(folder, tmp_path / "out", on_unreadable=leave_out)
    assert summary["images"] == 5
    assert "2.png cannot be read" in summary["unreadable_images"][0]
    damaged.write_bytes(content)
    assert run(folder, tmp_path / "out")["new"] == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_another_run_in_the_same_folder_is_refused(folder, tmp_path):
    run(folder, tmp_path / "out", "label_png")
    with pytest.raises(OtherRunError, match=r"holds results of another run, .* threshold=0\.5 \(before: 0\.0\)"):
        run(folder, tmp_path / "out", "label_png", threshold=0.5)


def test_a_run_that_an_earlier_release_began_is_gone_on_with(folder, tmp_path):
    run(folder, tmp_path / "out", "label_png", source="these", threshold=0.5)
    written = json.loads((tmp_path / "out" / "parts" / "settings.json").read_text())
    assert len(written.pop("weights")) == 16
    # What version 0.1.0 wrote.
    assert written == {
        "checkpoint": "", "source": "these", "format": "label_png", "images": 6, "image_names": "4829b6a1f258f4ab",
        "categories": [[11, "disc"], [20, "ring"], [30, "sky"]],
        "size": {"longest_edge": 4000, "shortest_edge": 8}, "panoptic_threshold": 0.8, "threshold": 0.5, "top_k": 100,
        "test_time_augmentation": None, "run_name": "unisegment", "dtype": None, "tf32": False,
    }  # fmt: skip


def test_images_that_were_added_are_done_and_the_files_are_whole_again(folder, tmp_path):
    formats = {"pictures": pictures_of("panoptic"), **EXPORT_FORMATS}
    late = folder / "0.png", folder / "sub" / "5.png"  # the first and the last
    for to in ("pictures", "label_png"):
        run(folder, tmp_path / f"whole {to}", to, formats=formats)
        aside = [file.rename(tmp_path / file.name) for file in late]
        assert run(folder, tmp_path / to, to, formats=formats)["new"] == 4
        for moved, file in zip(aside, late, strict=True):
            moved.rename(file)
        predictor = make_predictor()
        assert run(folder, tmp_path / to, to, predictor, formats=formats) == {
            "images": 6, "new": 2, "unreadable_images": [],
        }  # fmt: skip
        assert sum(predictor.model.batches) == 2
        assert contents(tmp_path / to) == contents(tmp_path / f"whole {to}")
    listed = json.loads((tmp_path / "pictures" / "predictions.json").read_text())
    assert [entry["name"] for entry in listed] == ImageFolder(folder).names
    late[0].unlink()
    before = contents(tmp_path / "label_png")
    with pytest.raises(OtherRunError, match=r"holds results of 0\.png, which is not among the images"):
        run(folder, tmp_path / "label_png", "label_png")
    assert contents(tmp_path / "label_png") == before


@pytest.mark.parametrize("to", ["coco_panoptic", "coco_instance", "coco_test_dev"])
def test_files_with_ids_of_images_are_of_the_same_images_only(folder, tmp_path, to):
    run(folder, tmp_path / "out", to)
    Image.fromarray(SAMPLES[0].image).save(folder / "00.png")  # which makes all ids others
    with pytest.raises(OtherRunError, match="other names of images"):
        run(folder, tmp_path / "out", to)


def test_images_that_version_0_1_has_finished_are(folder, tmp_path):
    """It named their files by their numbers."""
    run(folder, tmp_path / "out")
    before = contents(tmp_path / "out")
    for number, part in enumerate(parts_of(tmp_path / "out")):
        part.rename(part.with_name(f"{number:09d}.json"))
    assert run(folder, tmp_path / "out")["new"] == 0
    assert contents(tmp_path / "out") == before


def test_images_without_a_folder_have_the_names_of_their_files_or_others(tmp_path):
    with pytest.raises(ValueError, match="Two images are named same"):
        export_predictions(make_predictor(), SAMPLES, tmp_path / "out", "label_png", names=["same.png"] * 6)
    export_predictions(make_predictor(), SAMPLES, tmp_path / "plain", "label_png")
    assert sorted(path.name for path in (tmp_path / "plain" / "labels").iterdir()) == [f"{n}.png" for n in range(6)]


def test_a_format_of_ones_own_sees_the_pixels(folder, tmp_path):
    class Means(ExportFormat):
        tasks = ()
        part_kinds: ClassVar = {"mean": float}

        def write(self, image, predictions):
            return {"mean": float(image.pixels.mean())}

        def finish(self, parts):
            (self.output / "means.json").write_text(json.dumps([part["mean"] for part in parts()]))

    run(folder, tmp_path / "out", "means", formats={**EXPORT_FORMATS, "means": Means})
    images = ImageFolder(folder)
    expected = [images[number].image.mean() for number in range(6)]
    assert json.loads((tmp_path / "out" / "means.json").read_text()) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"no export format 'means', only coco_panoptic, "):
        run(folder, tmp_path / "other", "means")


def test_the_threshold_of_objects(folder, tmp_path):
    run(folder, tmp_path / "few", "coco_instance", threshold=0.9999)
    assert json.loads((tmp_path / "few" / "detections_unisegment_results.json").read_text()) == []


def test_only_what_the_format_needs_is_predicted(folder, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Predictor, "instance", lambda *arguments: asked.append(1))
    run(folder, tmp_path / "out", "label_png")
    assert not asked
    assert np.asarray(Image.open(tmp_path / "out" / "labels" / "0.png")).max() == 30


def test_a_folder_with_other_files_is_left_alone(folder, tmp_path):
    """A folder of labels has the name of that which results go to."""
    (tmp_path / "data" / "labels").mkdir(parents=True)
    (tmp_path / "data" / "labels" / "0.png").write_bytes(b"mine")
    other = r"holds other files, such as .*\.png: choose a new or an empty folder"
    for output in (tmp_path / "data", folder):
        before = contents(output)
        with pytest.raises(OtherRunError, match=other):
            run(folder, output, "label_png")
        assert contents(output) == before
    # What a run leaves that is killed at once is not other files.
    (tmp_path / "new" / "parts").mkdir(parents=True)
    (tmp_path / "new" / "parts" / "settings.json.partial~").write_text("{")
    assert run(folder, tmp_path / "new", "label_png")["new"] == 6


def test_a_link_in_the_folder_is_not_followed(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "parts").symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"leads out of .*out through a symbolic link"):
        run(folder, tmp_path / "out", "label_png")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000], ids=range(6))
def test_damaged_files_of_an_earlier_run_are_named(folder, tmp_path, content):
    output = tmp_path / "out"
    run(folder, output, "coco_panoptic")
    part = parts_of(output)[2]
    for damaged in (content, b'{"name": 3, "image": {}, "panoptic": {}}', b'{"name": "a", "image": {}}'):
        part.write_bytes(damaged)
        with pytest.raises(OtherRunError, match=rf"{part.name} is damaged .*: remove it, and give the same command"):
            run(folder, output, "coco_panoptic")
    part.unlink()
    assert run(folder, output, "coco_panoptic")["new"] == 1
    (output / "parts" / "settings.json").write_bytes(content)
    with pytest.raises(OtherRunError, match=r"settings\.json is damaged .*: choose another folder, or remove"):
        run(folder, output, "coco_panoptic")


def test_the_digest_of_weights_is_of_them_alone_and_made_without_float64_on_the_device():
    model = nn.Sequential(nn.Linear(7, 3), nn.BatchNorm1d(3))
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    before = weights_digest(model)
    with Record() as record:
        model.state_dict = lambda: {name: weight.to(DEVICE, non_blocking=True) for name, weight in weights.items()}
        assert weights_digest(model) == before
        assert record.float64 == {}
        assert sum(record.synchronisations.values()) == 1
    weights["1.bias"][2] += 1e-6
    model.state_dict = lambda: weights
    assert weights_digest(model) != before


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -0.1, 1.1])
def test_thresholds_are_scores(folder, tmp_path, threshold):
    with pytest.raises(ValueError, match="threshold must be from 0 to 1"):
        run(folder, tmp_path / "out", threshold=threshold)
    with pytest.raises(ValueError, match="panoptic_threshold must be from 0 to 1"):
        replace(make_predictor(), panoptic_threshold=threshold)
    assert not (tmp_path / "out").exists()


def test_top_k_is_a_number():
    with pytest.raises(ValueError, match="top_k must be 1 or more, got 0"):
        replace(make_predictor(), top_k=0)


def test_what_the_processor_does_not_read_is_said_before_anything_is_written(tmp_path):
    predictor = Predictor(ReadsColours(), only_semantic())
    with pytest.raises(ValueError, match="Only labels of pixels here"):
        export_predictions(predictor, SAMPLES, tmp_path / "out", "coco_panoptic")
    assert not (tmp_path / "out").exists()
