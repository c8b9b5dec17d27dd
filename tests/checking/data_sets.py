# SPDX-License-Identifier: Apache-2.0
"""Small sound data sets in four formats, for tests that damage them or count what they hold."""

import json

import numpy as np
from PIL import Image

from unisegment.ops.masks import ids_to_rgb

SIZES = {"a": (29, 37), "b": (31, 23), "c": (41, 43), "d": (37, 53)}
"""Height and width of the images for training; those held out are `e` and `f`."""
HELD_OUT = {"e": (47, 19), "f": (23, 59)}
CATEGORIES = [
    {"id": 1, "name": "cow", "isthing": 1},
    {"id": 4, "name": "dog", "isthing": 1},
    {"id": 9, "name": "grass", "isthing": 0},
]


def write_photo(file, size, seed=None, **settings):
    """Write a smooth image that is unlike any other."""
    file.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(sum(file.name.encode()) + size[0] if seed is None else seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(file, **settings)


def id_map(size):
    """Return a map of void (an upper stripe), 1 (left below it), 4 (right) and 9 (the rest)."""
    _, width = size
    ids = np.full(size, 9, dtype=np.uint8)
    ids[:2] = 0
    ids[2:9, : width // 2] = 1
    ids[5:17, width // 2 :] = 4
    return ids


def coco_instance(root):
    """Write `instances_{split}.json` and images, with three objects in each: polygons, and run lengths of a crowd."""
    for split, sizes in (("train", SIZES), ("val", HELD_OUT)):
        images, annotations = [], []
        for image_id, (name, size) in enumerate(sizes.items(), 1):
            height, width = size
            write_photo(root / split / f"{name}.jpg", size)
            images.append({"id": image_id, "file_name": f"{name}.jpg", "height": height, "width": width})
            objects = [
                {"category_id": 1, "segmentation": [[2, 3, 13, 3, 13, 14, 2, 14]], "bbox": [2, 3, 11, 11], "area": 121},
                {
                    "category_id": 4,
                    "segmentation": [[1, 15, 18, 15, 18, 22, 1, 22]],
                    "bbox": [1, 15, 17, 7],
                    "area": 119,
                },
                {
                    "category_id": 9,
                    "segmentation": {"size": [height, width], "counts": [5, 7, height * width - 12]},
                    "iscrowd": 1,
                    "area": 7,
                },
            ]
            for entry in objects:
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, "iscrowd": 0, **entry})
        write_json(
            root / f"annotations/instances_{split}.json",
            {"categories": CATEGORIES, "images": images, "annotations": annotations},
        )


def coco_panoptic(root):
    """Write `panoptic_{split}.json`, PNG files and images; segment ids are above 65,535."""
    for split, sizes in (("train", SIZES), ("val", HELD_OUT)):
        images, annotations = [], []
        for image_id, (name, size) in enumerate(sizes.items(), 1):
            write_photo(root / split / f"{name}.jpg", size)
            images.append({"id": image_id, "file_name": f"{name}.jpg", "height": size[0], "width": size[1]})
            ids = id_map(size).astype(np.int64) * 70_000
            write_map(root / f"annotations/panoptic_{split}" / f"{name}.png", ids_to_rgb(ids))
            segments = [{"id": 70_000 * number, "category_id": number, "iscrowd": 0} for number in (1, 4, 9)]
            annotations.append({"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments})
        write_json(
            root / f"annotations/panoptic_{split}.json",
            {"categories": CATEGORIES, "images": images, "annotations": annotations},
        )


def png_semantic(root):
    """Write `images/`, `labels/` and `categories.json`."""
    _png_folders(root, "labels", lambda ids: ids)


def png_instance(root):
    """Write `images/`, `instances/` and `categories.json`."""
    _png_folders(root, "instances", lambda ids: (ids > 0) * (ids.astype(np.uint16) * np.uint16(1000) + np.uint16(1)))


def _png_folders(root, folder, code):
    for split, sizes in (("train", SIZES), ("val", HELD_OUT)):
        for name, size in sizes.items():
            write_photo(root / f"images/{split}/{name}.jpg", size)
            write_map(root / folder / split / f"{name}.png", code(id_map(size)))
    write_json(root / "categories.json", [{**entry, "isthing": bool(entry["isthing"])} for entry in CATEGORIES])


def write_map(file, array):
    """Write an array as a PNG file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


def write_json(file, content):
    """Write a JSON file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def edit_json(file, change):
    """Change the content of a JSON file in place."""
    content = json.loads(file.read_text())
    change(content)
    write_json(file, content)


WRITERS = {
    "coco_instance": coco_instance,
    "coco_panoptic": coco_panoptic,
    "png_semantic": png_semantic,
    "png_instance": png_instance,
}
