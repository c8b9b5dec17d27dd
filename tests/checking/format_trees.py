# SPDX-License-Identifier: Apache-2.0
"""A small sound data set in every format that there is: `TREES`."""

import json
import shutil

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image

from tests.checking.damage_kinds import cut
from tests.checking.data_sets import CATEGORIES, HELD_OUT, SIZES, WRITERS, edit_json, id_map, write_map, write_photo
from tests.data import mask_trees
from tests.data.exports import labelme_file, write_texts

SPLITS = {"train": SIZES, "val": HELD_OUT}
LONG = {"train": "training", "val": "validation"}


def moved(write, places):
    """Return a writer of what another one writes, with its files and folders elsewhere, by `{split}` and `{long}`."""

    def write_there(root):
        write(root / "before")
        for split, long in LONG.items():
            for before, after in places.items():
                place = root / after.format(split=split, long=long)
                place.parent.mkdir(parents=True, exist_ok=True)
                (root / "before" / before.format(split=split)).rename(place)
        shutil.rmtree(root / "before")

    return write_there


def label_maps(image, label_map, code=lambda ids: ids):
    """Return a writer of images and maps at places by `{split}`, `{long}` and `{name}`."""

    def write_there(root):
        for split, name, size in _photos(root, image):
            place = label_map.format(split=split, long=LONG[split], name=name)
            write_map(root / place, code(id_map(size)))

    return write_there


def coded(ids, road, person, car):
    """Return a map with the numbers of Cityscapes."""
    return np.select([ids == 9, ids == 4, ids == 1], [road, person, car], 0)


def cityscapes_panoptic(root):
    """Write images in folders of cities."""
    moved(
        WRITERS["coco_panoptic"],
        {
            "annotations/panoptic_{split}.json": "gtFine/cityscapes_panoptic_{split}.json",
            "annotations/panoptic_{split}": "gtFine/cityscapes_panoptic_{split}",
            "{split}": "leftImg8bit/{split}/ulm",
        },
    )(root)
    for split in SPLITS:
        for file in (root / f"leftImg8bit/{split}/ulm").iterdir():
            file.rename(file.with_name(f"ulm_{file.name}"))
        edit_json(
            root / f"gtFine/cityscapes_panoptic_{split}.json",
            lambda content: [image.update(file_name=f"ulm_{image['file_name']}") for image in content["images"]],
        )


def hugging_face(root, broken=None):
    """Write rows with an image and a semantic map; of the one of some name, half of the image's file."""
    features = Features({"image": Image(), "label": Image()})
    rows = {}
    for split, sizes in SPLITS.items():
        for name, size in sizes.items():
            write_photo(root / f"photos/{name}.jpg", size)
            write_map(root / f"photos/{name}.png", id_map(size))
            if name == broken:
                cut(root / f"photos/{name}.jpg")
        files = {"image": "jpg", "label": "png"}
        columns = {
            key: [{"bytes": (root / f"photos/{name}.{ending}").read_bytes()} for name in sizes]
            for key, ending in files.items()
        }
        rows[split] = Dataset.from_dict(columns, features=features)
    shutil.rmtree(root / "photos")
    DatasetDict(rows).save_to_disk(root)
    (root / "id2label.json").write_text(json.dumps({entry["id"]: entry["name"] for entry in CATEGORIES}))


def yolo_segmentation(root):
    """Write a line of corners for each object, as parts of width and height."""
    write_texts(root, {"data.yaml": "train: images/train\nval: images/val\nnames: [cow, dog]\n"})
    for split, name, size in _photos(root, "images/{split}/{name}.jpg"):
        lines = [
            f"{place} " + " ".join(f"{x / size[1]} {y / size[0]}" for x, y in ring) for place, ring in _rings(size)
        ]
        write_texts(root, {f"labels/{split}/{name}.txt": "\n".join(lines)})


def labelme(root):
    """Write a JSON file beside each image."""
    for split, name, size in _photos(root, "{split}/{name}.jpg"):
        shapes = [
            {"label": "dog" if place else "cow", "points": ring, "shape_type": "polygon"}
            for place, ring in _rings(size)
        ]
        write_texts(root, {f"{split}/{name}.json": labelme_file(*shapes, path=f"{name}.jpg", size=size)})


def supervisely(root):
    """Write polygons beside `meta.json`."""
    write_texts(root, {"meta.json": json.dumps({"classes": mask_trees.CLASSES, "tags": []})})
    for split, name, size in _photos(root, "{split}/img/{name}.jpg"):
        figures = [
            mask_trees.figure("polygon", ring, title=mask_trees.CLASSES[place]["title"]) for place, ring in _rings(size)
        ]
        mask_trees.annotation(root / f"{split}/ann/{name}.jpg.json", *figures, size=size)


def pascal_voc(root, objects=True):
    """Write maps of classes with VOC's numbers, and of objects."""
    for split, name, size in _photos(root, "JPEGImages/{name}.jpg"):
        ids = id_map(size)
        mask_trees.palette_png(
            root / f"SegmentationClass/{name}.png", coded(ids, road=0, person=15, car=7).astype(np.uint8)
        )
        if objects:
            mask_trees.palette_png(
                root / f"SegmentationObject/{name}.png", coded(ids, road=0, person=1, car=2).astype(np.uint8)
            )
        mask_trees.split_list(root, split, *SPLITS[split])


def png_per_object(root):
    """Write a black and white PNG file for each object."""
    for split, name, size in _photos(root, "{split}/images/{name}.jpg"):
        for number in (1, 4):
            write_map(root / f"{split}/masks/{name}/{number}.png", (id_map(size) == number).astype(np.uint8) * 255)


def _photos(root, place):
    """Write all images, and give the split, the name and the size of each."""
    for split, sizes in SPLITS.items():
        for name, size in sizes.items():
            write_photo(root / place.format(split=split, long=LONG[split], name=name), size)
            yield split, name, size


def _rings(size):
    """Return number and corners of the two objects of `id_map`."""
    middle, width = size[1] // 2, size[1]
    return [
        (0, [[0, 2], [middle, 2], [middle, 9], [0, 9]]),
        (1, [[middle, 5], [width, 5], [width, 17], [middle, 17]]),
    ]


TREES = {
    **WRITERS,
    "ade20k_semantic": label_maps("images/{long}/{name}.jpg", "annotations/{long}/{name}.png"),
    "ade20k_instance": moved(
        WRITERS["coco_instance"],
        {"annotations/instances_{split}.json": "ade20k_instance_{split}.json", "{split}": "images/{long}"},
    ),
    "ade20k_panoptic": moved(
        WRITERS["coco_panoptic"],
        {
            "annotations/panoptic_{split}.json": "ade20k_panoptic_{split}.json",
            "annotations/panoptic_{split}": "ade20k_panoptic_{split}",
            "{split}": "images/{long}",
        },
    ),
    "cityscapes_semantic": label_maps(
        "leftImg8bit/{split}/ulm/ulm_{name}_leftImg8bit.png",
        "gtFine/{split}/ulm/ulm_{name}_gtFine_labelIds.png",
        lambda ids: coded(ids, road=7, person=24, car=26).astype(np.uint8),
    ),
    "cityscapes_instance": label_maps(
        "leftImg8bit/{split}/ulm/ulm_{name}_leftImg8bit.png",
        "gtFine/{split}/ulm/ulm_{name}_gtFine_instanceIds.png",
        lambda ids: coded(ids, road=7, person=24_000, car=26).astype(np.uint16),
    ),
    "cityscapes_panoptic": cityscapes_panoptic,
    "mapillary_vistas_semantic": label_maps("{long}/images/{name}.jpg", "{long}/v1.2/labels/{name}.png"),
    "mapillary_vistas_panoptic": moved(
        WRITERS["coco_panoptic"],
        {
            "annotations/panoptic_{split}": "{long}/v1.2/panoptic",
            "annotations/panoptic_{split}.json": "{long}/v1.2/panoptic/panoptic_2018.json",
            "{split}": "{long}/images",
        },
    ),
    "yolo_segmentation": yolo_segmentation,
    "labelme": labelme,
    "pascal_voc": pascal_voc,
    "pascal_voc_semantic": lambda root: pascal_voc(root, objects=False),
    "supervisely": supervisely,
    "png_per_object": png_per_object,
    "hugging_face": hugging_face,
    "synthetic": WRITERS["coco_panoptic"],
}
