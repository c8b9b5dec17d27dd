# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import torch

from tests.data.export.checkers import check_coco_archives, check_coco_detections, check_coco_panoptic
from tests.data.export.predictions import export_all
from unisegment.data.export import open_export
from unisegment.data.export.format import ExportedImage
from unisegment.metrics import panoptic_quality_from_files
from unisegment.ops.rle import decode_rle
from unisegment.structures import Category

CATEGORIES = [Category(number, str(number), number < 50, (1, 2, 3)) for number in (3, 17, 90, 200)]
THINGS = [0, 1]
IMAGES = [ExportedImage(139, "000000000139.jpg", (29, 43)), ExportedImage(7, "sub/000000000007.jpg", (37, 31))]
SIZES = {image.image_id: image.size for image in IMAGES}
IDS = {3, 17, 90, 200}


def test_panoptic_results_are_as_the_server_wants_them(tmp_path):
    export = open_export("coco_panoptic", tmp_path, CATEGORIES, "ours")
    predictions = export_all(export, IMAGES, THINGS)
    name = tmp_path / "panoptic_ours_results"
    check_coco_panoptic(name.with_suffix(".json"), name, SIZES, IDS)
    content = json.loads(name.with_suffix(".json").read_text())
    assert [item["file_name"] for item in content["annotations"]] == ["000000000139.png", "sub/000000000007.png"]
    assert content["images"][1] == {"id": 7, "file_name": "sub/000000000007.jpg", "height": 37, "width": 31}
    assert content["categories"][3] == {"id": 200, "name": "200", "isthing": 0}
    found = [segment["category_id"] for segment in content["annotations"][0]["segments_info"]]
    assert found == [CATEGORIES[info["label_id"]].id for info in predictions[139]["panoptic"].segments_info]
    # Evaluated against themselves they are perfect.
    scores = panoptic_quality_from_files(*[name.with_suffix(".json"), name] * 2)
    assert scores["all"]["pq"] == 1.0


def test_instance_results_are_as_the_server_wants_them(tmp_path):
    export = open_export("coco_instance", tmp_path, CATEGORIES, "ours")
    predictions = export_all(export, IMAGES, THINGS)
    file = tmp_path / "detections_ours_results.json"
    assert check_coco_detections(file, SIZES, IDS) == {139: 7, 7: 7}
    first = [item for item in json.loads(file.read_text()) if item["image_id"] == 139]
    assert torch.equal(decode_rle([item["segmentation"] for item in first]), predictions[139]["instance"].masks)
    assert [item["score"] for item in first] == [info["score"] for info in predictions[139]["instance"].segments_info]


def test_archives_for_test_dev_are_as_the_server_wants_them(tmp_path):
    for folder in ("one", "two"):
        export = open_export("coco_test_dev", tmp_path / folder, CATEGORIES, "ours")
        export_all(export, IMAGES, THINGS)
    check_coco_archives(tmp_path / "one", "ours", tmp_path / "unpacked", SIZES, IDS)
    for archive in (tmp_path / "one").glob("*.zip"):
        assert archive.read_bytes() == (tmp_path / "two" / archive.name).read_bytes()


def test_nothing_found(tmp_path):
    export = open_export("coco_panoptic", tmp_path, CATEGORIES)
    (empty,) = (export_all(export, IMAGES[:1], THINGS)[139]["panoptic"],)
    nothing = type(empty)(torch.zeros_like(empty.segmentation), [])
    part = export.write(IMAGES[0], {"panoptic": nothing})
    export.finish(lambda: iter([part]))
    name = tmp_path / "panoptic_unisegment_results"
    check_coco_panoptic(name.with_suffix(".json"), name, {139: (29, 43)}, IDS)
    export.finish(lambda: iter([]))
    assert json.loads(name.with_suffix(".json").read_text())["annotations"] == []
    assert np.all(nothing.segmentation.numpy() == 0)
