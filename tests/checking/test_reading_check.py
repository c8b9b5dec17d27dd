# SPDX-License-Identifier: Apache-2.0
"""What reading does to images is told: turned by EXIF data where the annotation is not, and levels that are lost."""

import io

import numpy as np
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageColumn
from PIL import Image

from tests.checking.data_sets import SIZES, WRITERS, id_map, write_map, write_photo
from tests.data.rows import write_names
from unisegment.checking import check_data
from unisegment.checking.sources import find_parts

IMAGES = {"coco_instance": "train/b.jpg", "coco_panoptic": "train/b.jpg", "png_semantic": "images/train/b.jpg"}


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def kinds_of(root, data_format, **overrides):
    parts = find_parts([str(root)], data_format, ["train"], {f"data.{key}": value for key, value in overrides.items()})
    report = check_data(parts, root / "out", workers=1, pictures=0, progress=False)
    return [finding["kind"] for part in report.parts for finding in part["findings"]]


@pytest.mark.parametrize("data_format", IMAGES)
@pytest.mark.parametrize(
    ("orientation", "is_annotation_upright", "upright", "stored"),
    [
        (3, False, ["exif-turned"], []),
        (2, False, ["exif-turned"], []),
        (6, False, ["exif-rotated"], []),
        (6, True, [], ["exif-rotated"]),
    ],
)
def test_images_that_are_turned(tmp_path, data_format, orientation, is_annotation_upright, upright, stored):
    WRITERS[data_format](tmp_path)
    size = SIZES["b"][::-1] if is_annotation_upright else SIZES["b"]
    write_photo(tmp_path / IMAGES[data_format], size, exif=exif_of(orientation))
    for exif, expected in (("upright", upright), ("stored", stored)):
        assert set(kinds_of(tmp_path, data_format, exif=exif)) - {"unreadable-sample", "unused-category"} == {*expected}


def test_a_map_that_is_turned_like_its_image_is_no_matter(tmp_path):
    WRITERS["png_semantic"](tmp_path)
    for orientation in (3, 6):
        write_photo(tmp_path / IMAGES["png_semantic"], SIZES["b"], exif=exif_of(orientation))
        label_map = Image.fromarray(id_map(SIZES["b"]))
        label_map.save(tmp_path / "labels/train/b.png", exif=exif_of(orientation))
        for exif in ("upright", "stored"):
            assert kinds_of(tmp_path, "png_semantic", exif=exif) == []


def rows_of(root, image, **settings):
    """Write rows with one image and its labels."""
    columns = []
    for array in (image, np.ones(image.shape[:2], np.uint8)):
        content = io.BytesIO()
        Image.fromarray(array).save(content, "PNG", **(settings if array is image else {}))
        columns.append([{"bytes": content.getvalue(), "path": None}])
    features = Features({"image": ImageColumn(), "label": ImageColumn()})
    Dataset.from_dict({"image": columns[0], "label": columns[1]}, features=features).save_to_disk(root)
    write_names(root)


@pytest.mark.parametrize(("size", "orientation"), [((5, 7), 3), ((5, 7), 4), ((7, 7), 6)])
def test_rows_that_are_turned(tmp_path, size, orientation):
    rows_of(tmp_path, np.zeros((*size, 3), np.uint8), exif=exif_of(orientation))
    assert "exif-turned" in kinds_of(tmp_path, "hugging_face")
    assert "exif-turned" not in kinds_of(tmp_path, "hugging_face", exif="stored")


def test_levels_that_are_lost(tmp_path):
    scan = np.random.default_rng(0).integers(47, 1028, SIZES["b"], dtype=np.uint16)
    WRITERS["png_semantic"](tmp_path / "files")
    (tmp_path / "files" / IMAGES["png_semantic"]).unlink()
    write_map(tmp_path / "files/images/train/b.png", scan)
    rows_of(tmp_path / "rows", scan)
    for folder, data_format in (("files", "png_semantic"), ("rows", "hugging_face")):
        assert "few-levels" in kinds_of(tmp_path / folder, data_format)
        for value_range in ("percentile", [47, 1027]):
            assert "few-levels" not in kinds_of(tmp_path / folder, data_format, range=value_range)
    write_map(tmp_path / "files/images/train/b.png", scan * 60)
    assert "few-levels" not in kinds_of(tmp_path / "files", "png_semantic")
