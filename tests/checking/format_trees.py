# SPDX-License-Identifier: Apache-2.0
"""A small sound data set in every format that there is: `TREES`."""

import json
import shutil

import numpy as np
from datasets import Dataset, DatasetDict, Features, Image

from tests.checking.damage_kinds import cut
from tests.checking.data_sets import CATEGORIES, HELD_OUT, SIZES, WRITERS, edit_json, id_map, write_map, write_photo

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
        for split, sizes in SPLITS.items():
            for name, size in sizes.items():
                words = {"split": split, "long": LONG[split], "name": name}
                write_photo(root / image.format(**words), size)
                write_map(root / label_map.format(**words), code(id_map(size)))

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
    "hugging_face": hugging_face,
    "synthetic": WRITERS["coco_panoptic"],
}
