# SPDX-License-Identifier: Apache-2.0
"""Parts are opened by training's readers; what they refuse does not hide the rest."""

import pytest

from tests.checking.data_sets import WRITERS, edit_json
from unisegment.checking.findings import Findings
from unisegment.checking.opening import INSTANCE_FORMATS, LABEL_MAP_FORMATS, PANOPTIC_FORMATS, Part, open_part
from unisegment.data import formats
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.formats.synthetic import write_synthetic
from unisegment.runs.recipe import DataRecipe


def open_as(root, data_format, split="train", paths=()):
    findings = Findings()
    opened = open_part(Part(DataRecipe(root=str(root), format=data_format), split, paths), findings)
    return opened, {found["kind"]: [item["file"] for item in found["listed"]] for found in findings.as_dicts()}


def test_every_format_is_known():
    known = {*INSTANCE_FORMATS, *PANOPTIC_FORMATS, *LABEL_MAP_FORMATS}
    assert known - {"synthetic"} == formats.FORMATS.keys() - {"hugging_face"}


@pytest.mark.parametrize("data_format", WRITERS)
def test_entries_are_in_the_order_of_the_reader(tmp_path, data_format):
    WRITERS[data_format](tmp_path)
    opened, found = open_as(tmp_path, data_format)
    assert found == {}
    assert len(opened) == len(opened.samples) == 4
    assert [str(opened.entries[index].image) for index in range(4)] == [sample.file_name for sample in opened.samples]


def test_files_may_be_named_one_by_one(tmp_path):
    WRITERS["coco_instance"](tmp_path)
    WRITERS["coco_panoptic"](tmp_path / "other")
    annotations = tmp_path / "annotations/instances_val.json"
    opened, found = open_as(tmp_path, "coco_instance", "x", (annotations, tmp_path / "val"))
    assert (len(opened.samples), found, opened.part.name) == (2, {}, str(annotations))
    paths = [tmp_path / "other" / name for name in ("annotations/panoptic_val.json", "val", "annotations/panoptic_val")]
    opened, found = open_as(tmp_path, "coco_panoptic", "x", tuple(paths))
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


def test_files_are_known_without_a_reader(tmp_path):
    WRITERS["coco_instance"](tmp_path)
    file = tmp_path / "annotations/instances_train.json"
    edit_json(file, lambda content: content["annotations"][0].update(category_id=5))
    opened, found = open_as(tmp_path, "coco_instance")
    assert (opened.samples, len(opened)) == (None, 4)
    assert found == {"unknown-category": [str(file)], "not-opened": [str(file)]}
    # Where no list can be read, what lies in the folder counts.
    file.write_text("{")
    opened, found = open_as(tmp_path, "coco_instance")
    assert found == {"broken-json": [str(file)], "not-opened": [str(file)]}
    assert [opened.entries[index].image.name for index in range(4)] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_exceptions_that_nobody_foresaw_are_told(tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("why not")

    WRITERS["png_semantic"](tmp_path)
    monkeypatch.setitem(formats.FORMATS, "png_semantic", formats.Format(fail))
    opened, found = open_as(tmp_path, "png_semantic")
    assert (opened.samples, found) == (None, {"unexpected-exception": [str(tmp_path)]})


def test_a_data_set_without_images_is_told(tmp_path, monkeypatch):
    class NoImages(AnnotatedImages):
        def __len__(self):
            return 0

    monkeypatch.setitem(formats.FORMATS, "hugging_face", formats.Format(lambda *_, **options: NoImages([])))
    opened, found = open_as(tmp_path, "hugging_face")
    assert len(opened) == 0
    assert found == {"no-images": [f"{tmp_path}: train"]}
