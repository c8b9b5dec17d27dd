# SPDX-License-Identifier: Apache-2.0
"""Folders in COCO's panoptic format are read as they are; whatever is wrong is said with the name of the file."""

import copy
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unisegment.data.categories import ADE20K, CITYSCAPES, COCO_PANOPTIC, MAPILLARY_VISTAS
from unisegment.data.formats import open_data_set
from unisegment.data.formats.coco_panoptic import CocoPanoptic
from unisegment.data.problems import CollectedProblems, DataError

IDS = {
    "a.jpg": [[70000, 70000, 0, 3, 3], [70000, 70000, 300, 3, 3], [2**24 - 1] * 5],
    "b.jpg": [[9, 0], [9, 9], [9, 5]],
}
SEGMENTS = {
    "a.jpg": [(70000, 17, 0), (3, 2, 1), (300, 2, 0), (2**24 - 1, 40, 0)],
    "b.jpg": [(5, 17, 0), (9, 40, 0)],
}
CATEGORIES = [
    {"id": 40, "name": "sky", "isthing": 0, "color": [1, 2, 3]},
    {"id": 2, "name": "car", "isthing": 1, "color": [4, 5, 6]},
    {"id": 17, "name": "cat", "isthing": 1},
]


def _content():
    images, annotations = [], []
    for image_id, (name, rows) in enumerate(IDS.items(), 21):
        images.append({"id": image_id, "file_name": name, "height": len(rows), "width": len(rows[0])})
        segments = [{"id": i, "category_id": category, "iscrowd": crowd} for i, category, crowd in SEGMENTS[name]]
        annotations.append({"image_id": image_id, "file_name": f"{name[0]}.png", "segments_info": segments})
    # Annotations come in an order of their own.
    return {"images": images, "annotations": annotations[::-1], "categories": CATEGORIES}


def _color(segment_id):
    return segment_id % 256, segment_id // 256 % 256, segment_id // 65536


def _write(root, content=None):
    (root / "images").mkdir()
    (root / "panoptic").mkdir()
    (root / "panoptic.json").write_text(json.dumps(content or _content()))
    for name, rows in IDS.items():
        colors = np.array([[_color(segment_id) for segment_id in row] for row in rows], dtype=np.uint8)
        Image.fromarray(colors).save(root / "panoptic" / f"{name[0]}.png")
        Image.fromarray(colors // 2).save(root / "images" / name, format="png")
    return root


@pytest.fixture
def root(tmp_path):
    return _write(tmp_path)


def _open(root, content=None):
    if content is not None:
        (root / "panoptic.json").write_text(json.dumps(content))
    return CocoPanoptic(root / "panoptic.json", root / "images", root / "panoptic")


def test_categories_are_sorted_by_id(root):
    dataset = _open(root)
    assert [category.id for category in dataset.categories] == [2, 17, 40]
    assert dataset.label_of == {2: 0, 17: 1, 40: 2}
    assert dataset.id2label == {0: "car", 1: "cat", 2: "sky"}
    assert dataset.stuff_label_ids == [2]
    assert dataset.categories[2].color == (1, 2, 3)
    assert [category.is_thing for category in dataset.categories] == [True, True, False]


def test_samples_are_those_of_the_files(root):
    dataset = _open(root)
    assert len(dataset) == 2
    second, first = dataset
    assert (first.image_id, second.image_id) == (21, 22)
    assert type(first.image_id) is int
    assert first.file_name == str(root / "images" / "a.jpg")
    np.testing.assert_array_equal(first.image[1, 0], np.array(_color(70000)) // 2)
    assert first.target.id_map.dtype == torch.int32
    assert first.target.id_map.tolist() == IDS["a.jpg"]
    assert second.target.id_map.tolist() == IDS["b.jpg"]
    assert first.target.segment_ids.tolist() == [70000, 3, 300, 2**24 - 1]
    assert first.target.labels.tolist() == [1, 0, 0, 2]
    assert first.target.is_crowd.tolist() == [False, True, False, False]
    assert second.target.labels.tolist() == [1, 2]


def test_labels_are_known_without_reading_an_image(root):
    content = _content()
    content["annotations"][0]["segments_info"][0]["iscrowd"] = 1
    dataset = _open(root, content)
    expected = [{*sample.target.labels[~sample.target.is_crowd].tolist()} for sample in dataset]
    for folder in ("images", "panoptic"):
        (root / folder).rename(root / f"no {folder}")
    assert [dataset.labels_in(index) for index in range(2)] == expected == [{2}, {0, 1, 2}]
    void = CocoPanoptic(root / "panoptic.json", root, root, void_categories={17})
    assert void.labels_in(1) == {0, 1}


def test_samples_can_be_counted_from_the_end_and_changed_without_harm(root):
    dataset = _open(root)
    sample = dataset[-1]
    sample.target.labels.zero_()
    sample.target.is_crowd.fill_(True)
    sample.target.segment_ids.zero_()
    assert dataset[1].target.labels.tolist() == [1, 0, 0, 2]
    assert dataset[1].target.is_crowd.tolist() == [False, True, False, False]
    assert dataset[1].target.segment_ids.tolist() == [70000, 3, 300, 2**24 - 1]
    with pytest.raises(IndexError):
        dataset[2]


def test_ids_of_images_may_be_names_and_workers_get_a_copy(root):
    content = _content()
    for entry in content["images"]:
        entry["id"] = f"city_{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"city_{entry['image_id']}"
    dataset = pickle.loads(pickle.dumps(_open(root, content)))
    assert [sample.image_id for sample in dataset] == ["city_22", "city_21"]


def test_images_without_segments_are_kept(root):
    content = _content()
    content["annotations"][0]["segments_info"] = []
    Image.fromarray(np.zeros((3, 2, 3), np.uint8)).save(root / "panoptic" / "b.png")
    target = _open(root, content)[0].target
    assert len(target) == 0
    assert target.size == (3, 2)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "CMYK"])
def test_other_colour_modes_become_rgb(root, mode):
    image = Image.new("RGB", (5, 3), (204, 204, 204)).convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes([0, 128])
    image.save(root / "images" / "a.jpg", format="tiff" if mode == "CMYK" else "png")
    sample = _open(root)[1]
    assert sample.image.shape == (3, 5, 3)
    assert np.abs(sample.image.astype(int) - 204).max() <= 1


def test_images_are_turned_upright(root):
    image = Image.fromarray(np.arange(45, dtype=np.uint8).reshape(5, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(root / "images" / "a.jpg", format="png", exif=exif)
    np.testing.assert_array_equal(_open(root)[1].image, np.rot90(np.asarray(image), k=-1))


@pytest.mark.parametrize(
    ("layout", "split"),
    [
        (("annotations/panoptic_train2017.json", "train2017", "annotations/panoptic_train2017"), "train"),
        (("annotations/panoptic_val2017.json", "val2017", "panoptic_val2017"), "val"),
        (("annotations/panoptic_train.json", "train", "annotations/panoptic_train"), "train"),
        (("annotations/panoptic_val2017.json", "val2017", "panoptic_val2017"), "val2017"),
        (("panoptic.json", "images", "panoptic"), "train"),
    ],
)
def test_folders_are_recognised(root, tmp_path, layout, split):
    other = tmp_path / "other"
    for source, target in zip(("panoptic.json", "images", "panoptic"), layout, strict=True):
        (other / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / source, other / target)
    assert len(list(open_data_set(str(other), "coco_panoptic", split))) == 2


def _write_one(root, annotations, image, segments_dir, png, content, rows):
    """Write a data set of one image; an item of `rows` is a segment id."""
    colors = np.array([[_color(segment_id) for segment_id in row] for row in rows], dtype=np.uint8)
    for file in (image, f"{segments_dir}/{png}"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors).save(root / file, format="png")
    entry = {"id": "x", "file_name": Path(image).name, "height": len(rows), "width": len(rows[0])}
    segments = [{"iscrowd": 0, "area": 1} | segment for segment in content.pop("segments")]
    annotation = {"image_id": "x", "file_name": png, "segments_info": segments}
    (root / annotations).write_text(json.dumps({"images": [entry], "annotations": [annotation], **content}))


def test_ade20k_as_the_original_writes_it(tmp_path):
    """Ids are the labels, stuff and things mixed; the floor is listed, but the bed was painted over all of it."""
    content = {
        "categories": [
            {"id": label, "name": name, "isthing": int(is_thing)}
            for label, (name, is_thing) in enumerate(ADE20K.items())
        ],
        "segments": [
            {"id": 7895160, "category_id": 0},
            {"id": 3289680, "category_id": 3},
            {"id": 205, "category_id": 7},
        ],
    }
    files = ("ade20k_panoptic_val.json", "images/validation/a.jpg", "ade20k_panoptic_val", "a.png")
    _write_one(tmp_path, *files, content, [[7895160, 205, 0], [205, 205, 0]])
    dataset = open_data_set(tmp_path, "ade20k_panoptic", "val")
    (sample,) = dataset
    assert sample.target.labels.tolist() == [0, 3, 7]
    assert sample.target.binary_masks().int().tolist() == [
        [[1, 0, 0], [0, 0, 0]],
        [[0] * 3] * 2,
        [[0, 1, 0], [1, 1, 0]],
    ]
    assert (len(dataset.id2label), len(dataset.stuff_label_ids)) == (150, 50)
    assert dataset.id2label[149] == "flag"
    _write_one(tmp_path, *files, content | {"segments": [{"id": 205, "category_id": 7}]}, [[77, 205, 0], [205, 205, 0]])
    with pytest.raises(ValueError, match=r"a\.png: it has ids that .*panoptic.*\.json does not list for it: \[77\]"):
        open_data_set(tmp_path, "ade20k_panoptic", "val")[0]


def test_cityscapes_as_its_scripts_write_it(tmp_path):
    """Images lie in folders of cities; ids of segments are `class * 1000 + n`, or the class alone."""
    numbers = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    content = {
        "categories": [
            {"id": number, "name": name, "isthing": int(is_thing), "color": [1, 2, 3], "supercategory": "flat"}
            for number, (name, is_thing) in zip(numbers, CITYSCAPES.items(), strict=True)
        ],
        "segments": [
            {"id": 7, "category_id": 7}, {"id": 24, "category_id": 24, "iscrowd": 1},
            {"id": 26000, "category_id": 26}, {"id": 33012, "category_id": 33},
        ],
    }  # fmt: skip
    name = "aachen_000000_000019"
    _write_one(
        tmp_path,
        "gtFine/cityscapes_panoptic_train.json",
        f"leftImg8bit/train/aachen/{name}_leftImg8bit.png",
        "gtFine/cityscapes_panoptic_train",
        f"{name}_gtFine_panoptic.png",
        content,
        [[7, 24, 26000, 0], [33012, 7, 26000, 0]],
    )
    dataset = open_data_set(tmp_path, "cityscapes_panoptic", "train")
    (sample,) = dataset
    assert sample.target.labels.tolist() == [0, 11, 13, 18]
    assert sample.target.is_crowd.tolist() == [False, True, False, False]
    assert sample.target.id_map.tolist() == [[7, 24, 26000, 0], [33012, 7, 26000, 0]]
    assert sample.file_name.endswith(f"leftImg8bit/train/aachen/{name}_leftImg8bit.png")
    assert list(dataset.id2label.values()) == list(CITYSCAPES)
    assert dataset.stuff_label_ids == list(range(11))


@pytest.mark.parametrize("folder", ["training/panoptic", "training/v1.2/panoptic"])
def test_mapillary_vistas(tmp_path, folder):
    """Ids are from 1; the 66th category is no label, and its pixels are void."""
    content = {
        "categories": [
            {"id": number, "name": name, "isthing": int(is_thing)}
            for number, (name, is_thing) in enumerate([*MAPILLARY_VISTAS.items(), ("Unlabeled", False)], 1)
        ],
        "segments": [{"id": 70000, "category_id": 1}, {"id": 5, "category_id": 66}, {"id": 900, "category_id": 65}],
    }
    files = (f"{folder}/panoptic_2018.json", "training/images/a.jpg", folder, "a.png")
    _write_one(tmp_path, *files, content, [[70000, 5], [5, 900], [0, 900]])
    dataset = open_data_set(tmp_path, "mapillary_vistas_panoptic", "train")
    target = dataset[0].target
    assert target.labels.tolist() == [0, 64]
    assert target.binary_masks().int().tolist() == [[[1, 0], [0, 0], [0, 0]], [[0, 0], [0, 1], [0, 1]]]
    assert list(dataset.id2label.values()) == list(MAPILLARY_VISTAS)
    assert len(dataset.stuff_label_ids) == 28


def test_an_incomplete_folder_is_refused_with_what_was_looked_for(root):
    shutil.rmtree(root / "images")
    with pytest.raises(FileNotFoundError) as error:
        open_data_set(root, "coco_panoptic", "val")
    for part in (
        str(root),
        "'val'",
        "annotations/panoptic_val2017.json, val2017, annotations/panoptic_val2017;",
        "annotations/panoptic_val2017.json, val2017, panoptic_val2017;",
        "annotations/panoptic_val.json, val, annotations/panoptic_val;",
        "panoptic.json, images, panoptic",
    ):
        assert part in str(error.value)


def test_a_missing_or_broken_json_file_is_refused(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.json: there is no such file"):
        CocoPanoptic(tmp_path / "none.json", root / "images", root / "panoptic")
    (root / "panoptic.json").write_text('{"images": [')
    with pytest.raises(ValueError, match=r"panoptic.json: it is not valid JSON"):
        _open(root)


def _without(*path):
    content = copy.deepcopy(_content())
    entry = content
    for key in path[:-1]:
        entry = entry[key]
    del entry[path[-1]]
    return content


@pytest.mark.parametrize(
    "path",
    [
        ("categories",),
        ("annotations", 0, "segments_info"),
        ("categories", 0, "isthing"),
        ("images", 0, "height"),
        ("annotations", 0, "segments_info", 0, "category_id"),
    ],
)
def test_another_format_is_refused(root, path):
    with pytest.raises(ValueError, match=rf"panoptic.json: .*{path[-1]}.*This must be COCO's panoptic format"):
        _open(root, _without(*path))
    with pytest.raises(ValueError, match=r"panoptic.json: it must hold one JSON object"):
        _open(root, [1, 2])


def test_unlisted_categories_and_images_are_refused(root):
    with pytest.raises(
        ValueError, match=r"panoptic.json: annotations\[0\] of b.png: a segment is of the category 40, which is not"
    ):
        _open(root, _without("categories", 0))
    with pytest.raises(
        ValueError, match=r"panoptic.json: annotations\[1\]: it is of the image 21, which is not listed"
    ):
        _open(root, _without("images", 0))


@pytest.mark.parametrize("name", ["images/a.jpg", "panoptic/a.png"])
def test_missing_and_broken_images_are_named(root, name):
    file = root / name
    whole = file.read_bytes()
    for content in (b"", b"not an image", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{file}: it (cannot be read as an image|is empty)"):
            _open(root)[1]
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{file}: there is no such file"):
        _open(root)[1]


@pytest.mark.parametrize("name", ["images/a.jpg", "panoptic/a.png"])
def test_sizes_that_disagree_are_named(root, name):
    Image.new("RGB", (3, 5)).save(root / name, format="png")
    with pytest.raises(ValueError, match=rf"{name}: it is 5x3 .*panoptic.json says 3x5"):
        _open(root)[1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (300, 301, r"a\.png: it has ids that .*panoptic\.json does not list for it: \[300\]"),
        (300, 0, r"panoptic\.json: annotations\[1\] of a\.png: it lists the ids \[0\]; PNG files hold 1 to 16777215"),
        (300, 2**24, r"annotations\[1\] of a\.png: it lists the ids \[16777216\]"),
        (300, 3, r"panoptic\.json: annotations\[1\] of a\.png: it lists the ids \[3\] more than once"),
    ],
)
def test_ids_that_disagree_are_named(root, old, new, message):
    content = _content()
    segment = next(entry for entry in content["annotations"][1]["segments_info"] if entry["id"] == old)
    segment["id"] = new
    with pytest.raises(ValueError, match=message):
        _open(root, content)[1]


def test_an_id_is_found_wherever_it_is(root):
    colors = np.array(Image.open(root / "panoptic" / "b.png"))
    for place in np.ndindex(3, 2):
        changed = colors.copy()
        changed[place] = _color(77)
        Image.fromarray(changed).save(root / "panoptic" / "b.png")
        with pytest.raises(ValueError, match=r"b\.png: it has ids that .*panoptic\.json does not list for it: \[77\]"):
            _open(root)[0]


def _damaged(root, thorough):
    """Open a data set of four images with many things wrong; return it and what was told, by kind."""
    content = _content()
    (entry,) = (entry for entry in content["annotations"] if entry["file_name"] == "a.png")
    for number in (31, 32, 33, 34):
        content["images"].append({**content["images"][0], "id": number, "file_name": f"{number}.jpg"})
    first, second = entry["segments_info"][:2]
    content["annotations"] += [
        {**entry, "image_id": 70},
        {**entry, "image_id": 31, "segments_info": [{**first, "category_id": 5}, {**second, "category_id": 5}]},
        {**entry, "image_id": 32, "segments_info": [first, {**second, "iscrowd": "no"}]},
        {**entry, "image_id": 33, "segments_info": [first, first]},
        {**entry, "image_id": 33, "segments_info": [{**first, "id": 2**40}]},
        {"image_id": 32},
    ]
    (root / "panoptic.json").write_text(json.dumps(content))
    (root / "panoptic/other.png").touch()
    problems = CollectedProblems(thorough=thorough)
    dataset = CocoPanoptic(root / "panoptic.json", root / "images", root / "panoptic", problems=problems)
    return dataset, {
        found["kind"]: [item["detail"].partition(". This must")[0] for item in found["listed"]]
        for found in problems.as_dicts()
    }


def test_images_that_cannot_be_used_are_left_out_and_named_once(root):
    dataset, found = _damaged(root, thorough=False)
    assert [dataset.files(index).image.name for index in range(len(dataset))] == ["b.jpg", "a.jpg", "33.jpg", "33.jpg"]
    assert found == {
        "unknown-image": ["annotations[2]: it is of the image 70, which is not listed."],
        "unknown-category": ["annotations[3] of a.png: a segment is of the category 5, which is not listed."],
        "odd-iscrowd": ["annotations[4]: segments_info[1]: iscrowd must be 0 or 1, or false or true, got 'no'."],
    }


def test_all_problems_are_told_to_those_who_want_to_know(root):
    dataset, found = _damaged(root, thorough=True)
    assert len(dataset) == 5
    assert dataset.files(1).segment_ids == [70000, 3, 300, 2**24 - 1]
    assert found == {
        "wrong-structure": ["annotations[7]: file_name is missing"],
        "unknown-image": ["annotations[2]: it is of the image 70, which is not listed."],
        "unknown-category": ["annotations[3] of a.png: a segment is of the category 5, which is not listed."] * 2,
        "odd-iscrowd": ["annotations[4]: segments_info[1]: iscrowd must be 0 or 1, or false or true, got 'no'."],
        "duplicate-segment-id": ["annotations[5] of a.png: it lists the ids [70000] more than once."],
        "id-too-large": [
            "annotations[6] of a.png: it lists the ids [1099511627776]; PNG files hold 1 to 16777215, and 0 is void."
        ],
        "duplicate-annotation": ["33.jpg is annotated 2 times: a.png, a.png"],
        "unannotated-image": ["34.jpg is left out"],
        "unlisted-label-map": ["nothing refers to it"],
    }
    with pytest.raises(DataError, match=r"annotations\[3\] of a\.png: a segment is of the category 5"):
        dataset[2]


@pytest.fixture
def coco_sample():
    root = Path(os.environ.get("UNISEGMENT_COCO_SAMPLE", "/nonexistent"))
    if not root.is_dir():
        pytest.skip("UNISEGMENT_COCO_SAMPLE does not name a folder with images of COCO and their panoptic annotation")
    return root


def test_real_coco_is_read(coco_sample):
    dataset = open_data_set(coco_sample, "coco_panoptic", "train")
    assert list(dataset.id2label.values()) == list(COCO_PANOPTIC)
    assert dataset.stuff_label_ids == list(range(80, 133))
    content = json.loads((coco_sample / "panoptic.json").read_text())
    for sample, annotation in zip(dataset, content["annotations"], strict=True):
        assert sample.image_id == annotation["image_id"]
        areas = sample.target.binary_masks().sum(dim=(1, 2)).tolist()
        assert areas == [segment["area"] for segment in annotation["segments_info"]]
        assert sample.target.is_crowd.tolist() == [segment["iscrowd"] == 1 for segment in annotation["segments_info"]]
