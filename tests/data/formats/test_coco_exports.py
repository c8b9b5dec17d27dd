# SPDX-License-Identifier: Apache-2.0
r"""What annotation tools export as COCO opens as it lies: small trees, rebuilt from the documentation of the tools.

CVAT: `annotations/instances_{subset}.json`, "default" where there are none, and `images/{subset}`
(https://docs.cvat.ai/docs/dataset_management/formats/format-coco/,
https://open-edge-platform.github.io/datumaro/latest/docs/data-formats/formats/coco.html). Label Studio: `result.json`
and `images/`, names with folders, `\` and escapes (https://labelstud.io/guide/export). Roboflow:
`{train,valid,test}/_annotations.coco.json` beside the images, and a placeholder as category 0
(https://roboflow.com/formats/coco-json). FiftyOne: `labels.json` and `data/`
(https://docs.voxel51.com/user_guide/export_datasets.html).
"""

import numpy as np
import pytest
from PIL import Image

from tests.checking.data_sets import write_json
from unisegment.data.formats import guess_format, open_data_set
from unisegment.ops.masks import ids_to_rgb

SIZE = (13, 17)
SQUARE = [2, 3, 8, 3, 8, 9, 2, 9]
"""A square of 6x6 pixels from x 2, y 3 on."""
BAR = {"size": [13, 17], "counts": [13 * 3 + 1, 11, 13 * 13 + 1]}
"""The column x 3, but for its first and its last pixel."""


def write_images(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", SIZE[::-1]).save(folder / name)


def instances(*names, first=1, categories=("cow", "dog")):
    """Return a file with a square cow and a bar of a dog in each image."""
    entries = [{"id": first + place, "name": name, "supercategory": ""} for place, name in enumerate(categories)]
    images, annotations = [], []
    for place, name in enumerate(names):
        images.append({"id": place, "width": SIZE[1], "height": SIZE[0], "file_name": name})
        for category, segmentation in ((first, [SQUARE]), (first + 1, BAR)):
            entry = {"image_id": place, "category_id": category, "segmentation": segmentation, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, **entry})
    return {"info": {}, "licenses": [], "categories": entries, "images": images, "annotations": annotations}


def check(samples, count, labels=("cow", "dog")):
    """Compare with what was worked out by hand."""
    assert list(samples.id2label.values()) == list(labels)
    assert len(samples) == count
    for index, sample in enumerate(samples):
        assert sample.image.shape == (*SIZE, 3)
        assert str(samples.files(index).image) == sample.file_name
        square, bar = sample.target.binary_masks().numpy()
        assert (square.sum(), bar.sum()) == (36, 11)
        assert [(axis.min(), axis.max()) for axis in np.nonzero(square)] == [(3, 8), (2, 7)]
        assert [(axis.min(), axis.max()) for axis in np.nonzero(bar)] == [(1, 11), (3, 3)]
        assert sample.target.labels.tolist() == [0, 1]


@pytest.mark.parametrize("folder", ["images/default", "images"])
@pytest.mark.parametrize("names", [("a.png", "b.png"), ("x/a.png", "b.png")])
def test_cvat_without_subsets(tmp_path, folder, names):
    for name in names:
        file = tmp_path / folder / name
        write_images(file.parent, file.name)
    write_json(tmp_path / "annotations/instances_default.json", instances(*names))
    assert guess_format(tmp_path) == "coco_instance"
    check(open_data_set(tmp_path), 2)
    assert len(open_data_set(tmp_path, split="val", val_share=0.5)) == 1
    with pytest.raises(FileNotFoundError, match=r"data\.val_share=0\.1"):
        open_data_set(tmp_path, split="val")


@pytest.mark.parametrize("subsets", [("train", "val"), ("Train", "Validation")])
def test_cvat_with_subsets(tmp_path, subsets):
    for count, subset in enumerate(subsets, 1):
        names = [f"{subset}{number}.png" for number in range(count)]
        write_images(tmp_path / "images" / subset, *names)
        write_json(tmp_path / f"annotations/instances_{subset}.json", instances(*names))
    assert guess_format(tmp_path) == "coco_instance"
    check(open_data_set(tmp_path), 1)
    check(open_data_set(tmp_path, split="val"), 2)


def test_one_folder_of_images_for_all_splits(tmp_path):
    write_images(tmp_path / "images", "a.png", "b.png", "c.png")
    for split, names in (("train", ("a.png", "b.png")), ("val", ("c.png",))):
        write_json(tmp_path / f"annotations/instances_{split}.json", instances(*names))
    check(open_data_set(tmp_path), 2)
    check(open_data_set(tmp_path, split="val"), 1)


@pytest.mark.parametrize(
    "form", ["images/{}", "images\\{}", "..\\..\\label-studio\\media\\upload\\1\\{}", "/data/upload/1/{}",
             "/data/local-files/?d=photos/{}", "http://localhost:8080/data/upload/1/{}", "s3://bucket/photos/{}"],
)  # fmt: skip
def test_label_studio(tmp_path, form):
    write_images(tmp_path / "images", "1f2e3d4c-a b.png", "0a0b0c0d-c.png")
    names = [form.format(name) for name in ("1f2e3d4c-a%20b.png", "0a0b0c0d-c.png")]
    write_json(tmp_path / "result.json", instances(*names, first=0))
    assert guess_format(tmp_path) == "coco_instance"
    samples = open_data_set(tmp_path)
    check(samples, 2)
    assert samples[0].file_name == str(tmp_path / "images/1f2e3d4c-a b.png")


def test_roboflow(tmp_path):
    for split, count in (("train", 2), ("valid", 1), ("test", 3)):
        names = [f"{split}{number}_png.rf.0123456789abcdef.png" for number in range(count)]
        write_images(tmp_path / split, *names)
        content = instances(*names)
        for entry in content["categories"]:
            entry["supercategory"] = "animals"
        content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
        write_json(tmp_path / split / "_annotations.coco.json", content)
    assert guess_format(tmp_path) == "coco_instance"
    for split, count in (("train", 2), ("val", 1), ("test", 3)):
        check(open_data_set(tmp_path, split=split), count)


def test_fifty_one(tmp_path):
    write_images(tmp_path / "all/data", "a.png", "b.png")
    write_json(tmp_path / "all/labels.json", instances("a.png", "/home/me/photos/b.png", first=0))
    assert guess_format(tmp_path / "all") == "coco_instance"
    check(open_data_set(tmp_path / "all"), 2)
    for split in ("train", "validation"):
        write_images(tmp_path / "split" / split / "data", f"{split}.png")
        write_json(tmp_path / "split" / split / "labels.json", instances(f"{split}.png"))
    assert guess_format(tmp_path / "split") == "coco_instance"
    check(open_data_set(tmp_path / "split", split="val"), 1)


def test_a_file_and_a_folder_anywhere(tmp_path):
    write_images(tmp_path / "photos", "a.png")
    write_json(tmp_path / "mine.json", instances("a.png"))
    check(open_data_set(tmp_path, "coco_instance", annotations="mine.json", images="photos"), 1)


def test_names_lead_nowhere_else(tmp_path):
    """Not to another folder of the computer, even if there is such an image."""
    write_images(tmp_path, "secret.png")
    write_images(tmp_path / "images", "a.png")
    names = [str(tmp_path / "secret.png"), "../secret.png", "..\\secret.png"]
    write_json(tmp_path / "result.json", instances("a.png", *names))
    samples = open_data_set(tmp_path)
    for index in range(1, 4):
        with pytest.raises(FileNotFoundError, match=r"secret\.png: there is no such file"):
            samples[index]


@pytest.mark.parametrize(
    ("subset", "folder"), [("default", "images/default"), ("train", "images/train"), ("Train", "images/Train")]
)
def test_panoptic_of_cvat(tmp_path, subset, folder):
    write_images(tmp_path / folder, "a.png")
    ids = np.zeros(SIZE, dtype=np.int64)
    ids[3:9, 2:8], ids[9:] = 70_000, 9
    maps = tmp_path / f"annotations/panoptic_{subset}"
    maps.mkdir(parents=True)
    Image.fromarray(ids_to_rgb(ids)).save(maps / "a.png")
    segments = [{"id": 70_000, "category_id": 1, "iscrowd": 0}, {"id": 9, "category_id": 2, "iscrowd": 0}]
    content = {
        "categories": [{"id": 1, "name": "cow", "isthing": 1}, {"id": 2, "name": "grass", "isthing": 0}],
        "images": [{"id": 1, "width": SIZE[1], "height": SIZE[0], "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
    }
    write_json(tmp_path / f"annotations/panoptic_{subset}.json", content)
    assert guess_format(tmp_path) == "coco_panoptic"
    (sample,) = open_data_set(tmp_path)
    assert sample.target.binary_masks().sum(dim=(1, 2)).tolist() == [36, 4 * 17]
