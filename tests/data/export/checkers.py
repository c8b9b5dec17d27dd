# SPDX-License-Identifier: Apache-2.0
"""What evaluation servers refuse, as the specifications of cocodataset.org and cityscapes-dataset.com say."""

import json
import re
import zipfile

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask


def check_coco_panoptic(results, folder, images, category_ids):
    """Check a JSON file and a folder of PNG files in COCO's panoptic results format.

    Args:
        results: The JSON file.
        folder: The PNG files.
        images: (height, width) of each image by its id.
        category_ids: Ids that the data set has.
    """
    annotations = json.loads(results.read_text())["annotations"]
    assert sorted(item["image_id"] for item in annotations) == sorted(images), "every image once, no other"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        item["file_name"] for item in annotations
    }
    for item in annotations:
        assert item["file_name"].endswith(".png")
        with Image.open(folder / item["file_name"]) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
            assert (picture.height, picture.width) == images[item["image_id"]]
            red, green, blue = np.asarray(picture).astype(int).transpose(2, 0, 1)
        ids = red + 256 * green + 256**2 * blue
        listed = [segment["id"] for segment in item["segments_info"]]
        assert len(set(listed)) == len(listed)
        assert set(ids.ravel().tolist()) - {0} == set(listed)
        for segment in item["segments_info"]:
            assert segment["category_id"] in category_ids
            inside = ids == segment["id"]
            rows, columns = np.nonzero(inside)
            assert segment["area"] == inside.sum()
            x, y, width, height = segment["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
            assert segment["iscrowd"] == 0


def check_coco_detections(results, images, category_ids):
    """Check a JSON file in COCO's results format for segments."""
    found = json.loads(results.read_text())
    assert isinstance(found, list)
    counts = dict.fromkeys(images, 0)
    for item in found:
        assert item.keys() >= {"image_id", "category_id", "segmentation", "score"}
        counts[item["image_id"]] += 1
        assert item["category_id"] in category_ids
        assert isinstance(item["score"], float)
        assert 0 <= item["score"] <= 1
        assert tuple(item["segmentation"]["size"]) == images[item["image_id"]]
        assert isinstance(item["segmentation"]["counts"], str)
        assert coco_mask.area(item["segmentation"]) > 0
    assert max(counts.values()) <= 100
    return counts


def check_coco_archives(folder, algorithm, tmp_path, images, category_ids):
    """Check what is uploaded for test-dev: one archive a task, with files of prescribed names at its top."""
    kinds = {}
    for kind in ("panoptic", "detections"):
        name = f"{kind}_test-dev2017_{algorithm}_results"
        with zipfile.ZipFile(folder / f"{name}.zip") as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            archive.extractall(tmp_path / kind)
        assert len(set(names)) == len(names)
        pictures = [entry for entry in names if entry != f"{name}.json"]
        assert len(pictures) == len(names) - 1
        assert all(entry.startswith(f"{name}/") for entry in pictures)
        kinds[kind] = tmp_path / kind / name
        assert bool(pictures) == (kind == "panoptic")
    check_coco_panoptic(kinds["panoptic"].with_suffix(".json"), kinds["panoptic"], images, category_ids)
    check_coco_detections(kinds["detections"].with_suffix(".json"), images, category_ids)


CITYSCAPES_LABEL_IDS = {7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33}
CITYSCAPES_THING_IDS = {24, 25, 26, 27, 28, 31, 32, 33}
CITYSCAPES_NAME = r"[a-z-]+_\d{6}_\d{6}"


def check_cityscapes(folder, images):
    """Check the three folders for Cityscapes' server.

    Args:
        folder: Where they are.
        images: (height, width) of each image by city, sequence and frame.
    """
    for name, size in images.items():
        assert re.fullmatch(CITYSCAPES_NAME, name)
        # Pixel-level: exactly one PNG file whose name begins as that of the image, with label ids.
        (file,) = (folder / "semantic").rglob(f"{name}*.png")
        with Image.open(file) as picture:
            assert picture.mode == "L"
            assert (picture.height, picture.width) == size
            assert set(np.asarray(picture).ravel().tolist()) <= CITYSCAPES_LABEL_IDS
        # Instance-level: exactly one text file; relative path of a mask, label id and confidence in each line.
        (file,) = (folder / "instance").rglob(f"{name}*.txt")
        for line in file.read_text().splitlines():
            path, label_id, confidence = line.split(" ")
            mask_file = (file.parent / path).resolve()
            assert mask_file.is_relative_to((folder / "instance").resolve())
            assert int(label_id) in CITYSCAPES_THING_IDS
            assert 0 <= float(confidence) <= 1
            with Image.open(mask_file) as picture:
                assert picture.mode == "L"
                assert (picture.height, picture.width) == size
                assert set(np.asarray(picture).ravel().tolist()) == {0, 255}
    check_coco_panoptic(
        folder / "cityscapes_panoptic.json", folder / "cityscapes_panoptic", images, CITYSCAPES_LABEL_IDS
    )
