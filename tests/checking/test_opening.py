# SPDX-License-Identifier: Apache-2.0
"""Parts are opened by training's readers; what they refuse does not hide the rest."""

from dataclasses import replace
from importlib import import_module

import pytest

from tests.checking.data_sets import WRITERS, edit_json
from unisegment.checking.opening import Part, open_part
from unisegment.checking.sources import find_parts
from unisegment.data import formats
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.formats.synthetic import write_synthetic
from unisegment.data.problems import CollectedProblems
from unisegment.runs.data_recipe import DataRecipe


def open_as(root, data_format, split="train", **places):
    findings = CollectedProblems(thorough=True)
    opened = open_part(Part(DataRecipe(root=str(root), format=data_format, **places), split), findings)
    return opened, {found["kind"]: [item["file"] for item in found["listed"]] for found in findings.as_dicts()}


@pytest.mark.parametrize("data_format", WRITERS)
def test_entries_are_in_the_order_of_the_reader(tmp_path, data_format):
    WRITERS[data_format](tmp_path)
    opened, found = open_as(tmp_path, data_format)
    assert found == {}
    assert len(opened) == len(opened.samples) == 4
    assert [str(opened.files(index).image) for index in range(4)] == [sample.file_name for sample in opened.samples]


def test_files_may_be_named_one_by_one(tmp_path):
    WRITERS["coco_instance"](tmp_path)
    WRITERS["coco_panoptic"](tmp_path / "other")
    places = {"annotations": "annotations/instances_val.json", "images": "val"}
    opened, found = open_as(tmp_path, "coco_instance", **places)
    assert (len(opened.samples), found) == (2, {})
    places = {"annotations": "annotations/panoptic_val.json", "images": "val"}
    for segments in ({}, {"segments": str(tmp_path / "other/annotations/panoptic_val")}):
        opened, found = open_as(tmp_path / "other", "coco_panoptic", **places, **segments)
        assert (len(opened.samples), found) == (2, {})


def test_drawn_scenes_are_opened_and_not_made(tmp_path):
    opened, found = open_as(tmp_path / "scenes", "synthetic")
    assert (opened.samples, len(opened)) == (None, 0)
    assert found == {"no-data": [str(tmp_path / "scenes")]}
    assert not (tmp_path / "scenes").exists()
    write_synthetic(tmp_path / "scenes", num_train=2, num_val=1, progress=False)
    opened, found = open_as(tmp_path / "scenes", "synthetic")
    assert (len(opened.samples), found) == (2, {})


def test_all_missing_maps_are_named_and_the_rest_opened(tmp_path):
    WRITERS["png_semantic"](tmp_path)
    for name in "bd":
        (tmp_path / f"labels/train/{name}.png").unlink()
    opened, found = open_as(tmp_path, "png_semantic")
    assert found == {"missing-label-map": [str(tmp_path / f"labels/train/{name}.png") for name in "bd"]}
    assert [sample.image_id for sample in opened.samples] == ["a", "c"]


def test_what_is_wrong_with_one_image_does_not_hide_the_others(tmp_path):
    WRITERS["coco_instance"](tmp_path)
    file = tmp_path / "annotations/instances_train.json"
    edit_json(file, lambda content: content["annotations"][0].update(category_id=5))
    opened, found = open_as(tmp_path, "coco_instance")
    assert found == {"unknown-category": [str(file)]}
    assert len(opened) == len(opened.samples) == 4
    assert [sample.image_id for sample in (opened.samples[index] for index in (1, 2, 3))] == [2, 3, 4]


def test_files_are_known_without_a_reader(tmp_path):
    WRITERS["coco_instance"](tmp_path)
    file = tmp_path / "annotations/instances_train.json"
    file.write_text("{")
    opened, found = open_as(tmp_path, "coco_instance")
    assert (opened.samples, found) == (None, {"broken-json": [str(file)]})
    assert [opened.files(index).image.name for index in range(4)] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def replaced(monkeypatch, name, opens):
    """Let something else open a format."""
    module = import_module(formats.MODULES[name])
    changed = tuple(replace(known, open=opens) if known.name == name else known for known in module.FORMATS)
    monkeypatch.setattr(module, "FORMATS", changed)


def test_exceptions_that_nobody_foresaw_are_told(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("why not")

    WRITERS["png_semantic"](tmp_path)
    replaced(monkeypatch, "png_semantic", fail)
    opened, found = open_as(tmp_path, "png_semantic")
    assert (opened.samples, found) == (None, {"unexpected-exception": [f"{tmp_path}: train"]})


def test_a_data_set_without_images_is_told(tmp_path, monkeypatch):
    class NoImages(AnnotatedImages):
        def __len__(self):
            return 0

    replaced(monkeypatch, "hugging_face", lambda *_, **__: NoImages([]))
    opened, found = open_as(tmp_path, "hugging_face")
    assert len(opened) == 0
    assert found == {"no-images": [f"{tmp_path}: train"]}


@pytest.mark.parametrize("name", ["gone.json", "gone/gone.json"])
def test_a_missing_file_is_named_once_in_one_error(tmp_path, name):
    WRITERS["coco_panoptic"](tmp_path)
    folders = [str(tmp_path / folder) for folder in ("val", "annotations/panoptic_val")]
    findings = CollectedProblems(thorough=True)
    open_part(*find_parts([str(tmp_path / name), *folders]), findings)
    assert findings.count("error") == 1
    ((problem,),) = findings.listed.values()
    missing = tmp_path / name if name == "gone.json" else tmp_path / "gone"
    assert (problem.kind, problem.file) == ("no-data", str(missing))
    assert str(tmp_path) not in problem.detail
