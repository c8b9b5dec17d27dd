# SPDX-License-Identifier: Apache-2.0
"""Small trees in the layouts of the published data sets: a few images of blocks for training, one to evaluate on.

Each writer is named after its `data.format`, and takes the folder.
"""

import json

import numpy as np

from tests.data.map_files import write_image, write_map
from unisegment.data.categories import ADE20K, CITYSCAPES, COCO_PANOPTIC, MAPILLARY_VISTAS
from unisegment.ops.masks import ids_to_rgb

SPLITS = {"train": ("training", 3), "val": ("validation", 1)}
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_NUM_COLUMNS = 3


def _size(number):
    # Twice as wide as high, as Cityscapes' are, so that its windows need no padding.
    return 40 + 6 * number, 80 + 12 * number


def _columns(values, size):
    """Return a map of upright stripes."""
    return np.repeat(values, -(-size[1] // len(values)))[None, : size[1]].repeat(size[0], 0)


def _panoptic(root, table, ids, annotations, image, png):
    """Write a COCO panoptic file and its images; names are formats of split, long split and number."""
    categories = [
        {"id": number, "name": name, "isthing": int(is_thing)}
        for number, (name, is_thing) in zip(ids, table.items(), strict=True)
    ]
    for split, (long, count) in SPLITS.items():
        images, entries = [], []
        for number in range(count):
            size, names = _size(number), {"split": split, "long": long, "number": number}
            file, folder = image.format(**names), png.format(**names).rpartition("/")[0]
            chosen = [ids[0], ids[-1], ids[len(ids) // 2]]
            segment_ids = [1000 * place + 7 for place in range(1, _NUM_COLUMNS + 1)]
            write_image(root / file, size, value=40 * number)
            write_map(root / png.format(**names), ids_to_rgb(_columns(segment_ids, size)))
            images.append({"id": number, "file_name": file.rpartition("/")[2], "height": size[0], "width": size[1]})
            segments = [
                {"id": segment_id, "category_id": category, "iscrowd": 0}
                for segment_id, category in zip(segment_ids, chosen, strict=True)
            ]
            assert folder
            name = png.format(**names).rpartition("/")[2]
            entries.append({"image_id": number, "file_name": name, "segments_info": segments})
        file = root / annotations.format(split=split, long=long)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))


def _instance(root, names, annotations, image):
    """Write a COCO instance file and its images; the first training image has no object."""
    categories = [{"id": number, "name": name} for number, name in names.items()]
    for split, (long, count) in SPLITS.items():
        images, objects = [], []
        for number in range(count):
            size = _size(number)
            file = image.format(split=split, long=long, number=number)
            write_image(root / file, size, value=40 * number)
            images.append({"id": number, "file_name": file.rpartition("/")[2], "height": size[0], "width": size[1]})
            if split == "train" and number == 0:
                continue
            for place, category in enumerate((min(names), max(names))):
                left = 5 + 30 * place
                outline = [left, 5, left + 21, 5, left + 21, 33, left, 33]
                objects.append(
                    {"id": len(objects) + 1, "image_id": number, "category_id": category, "iscrowd": 0,
                     "segmentation": [outline], "area": 588, "bbox": [left, 5, 21, 28]}
                )  # fmt: skip
        file = root / annotations.format(split=split)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))


def _maps(root, image, png, values, dtype=np.uint8, values_of_first=None):
    for split, (long, count) in SPLITS.items():
        for number in range(count):
            names, size = {"split": split, "long": long, "number": number}, _size(number)
            is_first = split == "train" and number == 0 and values_of_first is not None
            write_image(root / image.format(**names), size, value=40 * number)
            write_map(root / png.format(**names), _columns(values_of_first if is_first else values, size), dtype)


def coco_panoptic(root):
    _panoptic(
        root, COCO_PANOPTIC, range(1, 134), "annotations/panoptic_{split}2017.json",
        "{split}2017/{number:012}.jpg", "annotations/panoptic_{split}2017/{number:012}.png",
    )  # fmt: skip


def coco_instance(root):
    things = [name for name, is_thing in COCO_PANOPTIC.items() if is_thing]
    _instance(
        root, dict(enumerate(things, 1)), "annotations/instances_{split}2017.json", "{split}2017/{number:012}.jpg"
    )


def ade20k_panoptic(root):
    _panoptic(
        root, ADE20K, range(150), "ade20k_panoptic_{split}.json", "images/{long}/ADE_{split}_{number:08}.jpg",
        "ade20k_panoptic_{split}/ADE_{split}_{number:08}.png",
    )  # fmt: skip


def ade20k_instance(root):
    things = {label: name for label, (name, is_thing) in enumerate(ADE20K.items()) if is_thing}
    _instance(root, things, "ade20k_instance_{split}.json", "images/{long}/ADE_{split}_{number:08}.jpg")


def ade20k_semantic(root):
    name = "{long}/ADE_{split}_{number:08}"
    _maps(root, f"images/{name}.jpg", f"annotations/{name}.png", [0, 1, 150])


_CITY = "leftImg8bit/{split}/ulm/ulm_{number:06}_000019_leftImg8bit.png"


def cityscapes_panoptic(root):
    folder = "gtFine/cityscapes_panoptic_{split}"
    _panoptic(
        root, CITYSCAPES, CITYSCAPES_IDS, f"{folder}.json", _CITY,
        f"{folder}/ulm_{{number:06}}_000019_gtFine_panoptic.png",
    )  # fmt: skip


def cityscapes_instance(root):
    png = "gtFine/{split}/ulm/ulm_{number:06}_000019_gtFine_instanceIds.png"
    _maps(root, _CITY, png, [7, 26000, 24001], np.uint16, values_of_first=[7, 26, 4])


def cityscapes_semantic(root):
    _maps(root, _CITY, "gtFine/{split}/ulm/ulm_{number:06}_000019_gtFine_labelIds.png", [4, 7, 33])


def mapillary_vistas_panoptic(root):
    folder = "{long}/v1.2/panoptic"
    table = {**MAPILLARY_VISTAS, "Unlabeled": False}
    _panoptic(
        root, table, range(1, 67), f"{folder}/panoptic_2018.json", "{long}/images/{number}.jpg",
        f"{folder}/{{number}}.png",
    )  # fmt: skip


def mapillary_vistas_semantic(root):
    _maps(root, "{long}/images/{number}.jpg", "{long}/v1.2/labels/{number}.png", [0, 64, 65])


def png_semantic(root):
    _maps(root, "images/{split}/{number}.jpg", "labels/{split}/{number}.png", [1, 2, 0])
    (root / "categories.json").write_text(json.dumps([{"id": 1, "name": "cow"}, {"id": 2, "name": "grass"}]))


def _boxes(number):
    """Return two boxes in an image: label, left, upper, right and lower border in pixels."""
    return [("cow", 5, 5, 26, 33 + number), ("dog", 35, 5, 56, 33)]


def yolo_segmentation(root):
    for split, (_, count) in SPLITS.items():
        for number in range(count):
            height, width = _size(number)
            lines = [
                " ".join(
                    map(str, [place, *(edge / full for edge, full in zip(corners, [width, height] * 4, strict=True))])
                )
                for place, (_, x0, y0, x1, y1) in enumerate(_boxes(number))
                for corners in [(x0, y0, x1, y0, x1, y1, x0, y1)]
            ]
            write_image(root / f"{split}/images/{number}.jpg", (height, width), value=40 * number)
            file = root / f"{split}/labels/{number}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines))
    (root / "data.yaml").write_text("train: ../train/images\nval: ../val/images\nnc: 2\nnames: [cow, dog]\n")


def labelme(root):
    for split, (_, count) in SPLITS.items():
        for number in range(count):
            size = _size(number)
            write_image(root / f"{split}/{number}.jpg", size, value=40 * number)
            shapes = [
                {"label": label, "points": [[x0, y0], [x1, y1]], "shape_type": "rectangle", "group_id": None}
                for label, x0, y0, x1, y1 in _boxes(number)
            ]
            content = {"shapes": shapes, "imagePath": f"{number}.jpg", "imageData": None}
            content |= {"imageHeight": size[0], "imageWidth": size[1]}
            (root / f"{split}/{number}.json").write_text(json.dumps(content))


def cvat(root):
    """Write what CVAT exports of a project with subsets, in COCO's format."""
    _coco_export(root, "annotations/instances_{split}.json", "images/{split}", "{number}.jpg")


def roboflow(root):
    """Write what Roboflow exports in COCO's format, with the placeholder in front."""
    _coco_export(root, "{split}/_annotations.coco.json", "{split}", "{number}.jpg", {"val": "valid"}, "animals")


def fifty_one(root):
    """Write what FiftyOne exports in COCO's format, split by split."""
    _coco_export(root, "{split}/labels.json", "{split}/data", "/home/me/photos/{number}.jpg", {"val": "validation"})


def label_studio(root):
    """Write what Label Studio exports in COCO's format, which knows no splits."""
    _coco_export(root, "result.json", "images", r"..\..\media\upload\1\{number}.jpg")


def _coco_export(root, annotations, image_dir, file_name, split_names=None, placeholder=None):
    """Write a COCO instance file and its images; names are formats of split and number."""
    categories = [
        {"id": number, "name": name, "supercategory": placeholder or ""}
        for number, name in enumerate(("cow", "dog"), 1)
    ]
    if placeholder:
        categories.insert(0, {"id": 0, "name": placeholder, "supercategory": "none"})
    for split, (_, count) in [*SPLITS.items()][: 2 if "{split}" in annotations else 1]:
        split = (split_names or {}).get(split, split)
        images, objects = [], []
        for number in range(count):
            height, width = _size(number)
            write_image(root / image_dir.format(split=split) / f"{number}.jpg", (height, width), value=40 * number)
            name = file_name.format(number=number)
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for place, (_, x0, y0, x1, y1) in enumerate(_boxes(number), 1):
                polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
                objects.append({"image_id": number, "category_id": place, "iscrowd": 0, "segmentation": [polygon]})
        file = root / annotations.format(split=split)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))


def only_crowds(file):
    """Make every annotation of a COCO instance file a crowd."""
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    file.write_text(json.dumps(content))
