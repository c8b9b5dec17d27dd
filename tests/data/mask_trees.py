# SPDX-License-Identifier: Apache-2.0
"""Small trees as the tools' documents describe them: Pascal VOC, CVAT's masks, Supervisely, the Data Science Bowl.

Every image is 12 high and 20 wide. It shows a box at x 2 to 8, y 3 to 7 (24 pixels), and another at x 10 to 13, y 5 to
10 (15 pixels); what else there is, the writers say.
"""

import base64
import json
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

SIZE = (12, 20)
FIRST, SECOND = (slice(3, 7), slice(2, 8)), (slice(5, 10), slice(10, 13))
BOXES, AREAS = [[2, 3, 8, 7], [10, 5, 13, 10]], [24, 15]


def image(file, value=90):
    """Write an image; the ending decides about the kind of file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), value, np.uint8)).save(file)


def array(*numbers, void=None, size=SIZE):
    """Return a map with a number in each box, and perhaps a number around the first."""
    drawn = np.zeros(size, np.uint8)
    if void is not None:
        drawn[2:8, 1:9] = void
    for box, number in zip((FIRST, SECOND), numbers, strict=False):
        drawn[box] = number
    return drawn


def palette_png(file, numbers):
    """Write a PNG file with VOC's palette, whose colours are of no account here."""
    file.parent.mkdir(parents=True, exist_ok=True)
    stored = Image.fromarray(numbers)
    stored.putpalette([level for number in range(256) for level in (number, 255 - number, 7)])
    stored.save(file)


def color_png(file, numbers, colors):
    """Write a PNG file in the colours of some numbers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = np.zeros((256, 3), np.uint8)
    for number, color in colors.items():
        table[number] = color
    Image.fromarray(table[numbers]).save(file)


def split_list(root, name, *images):
    """Write a list of images."""
    file = root / f"ImageSets/Segmentation/{name}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{image}\n" for image in images))


def pascal_voc(root, objects=True):
    """Two images for training and one to evaluate on: a bicycle (2) with a void border of 24, and a person (15)."""
    for name in ("2007_000032", "2007_000039", "2007_000063"):
        image(root / f"JPEGImages/{name}.jpg")
        palette_png(root / f"SegmentationClass/{name}.png", array(2, 15, void=255))
        if objects:
            palette_png(root / f"SegmentationObject/{name}.png", array(1, 2, void=255))
    image(root / "JPEGImages/2008_000001.jpg")  # of the other tasks of the challenge
    split_list(root, "train", "2007_000032", "2007_000063")
    split_list(root, "val", "2007_000039")
    split_list(root, "trainval", "2007_000032", "2007_000039", "2007_000063")


def cvat_masks(root):
    """One split, colours: a car and a cat, named in labelmap.txt; a name with a space, a folder in a name."""
    colors = {1: (10, 128, 0), 2: (0, 108, 128)}
    root.mkdir(parents=True, exist_ok=True)
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:10,128,0::\ncat:0,108,128::\n"
    )
    for name in ("frame 1", "cam/frame_2"):
        image(root / f"JPEGImages/{name}.jpg")
        color_png(root / f"SegmentationClass/{name}.png", array(1, 2), colors)
        color_png(root / f"SegmentationObject/{name}.png", array(1, 2), {1: (128, 0, 0), 2: (0, 128, 0)})
    split_list(root, "default", '"frame 1"', "cam/frame_2")


def bitmap(mask, corner, mode="palette"):
    """Return a figure as Supervisely stores masks: a PNG file with transparency, compressed by zlib, in base64."""
    stored = Image.fromarray(np.asarray(mask, np.uint8))
    options = {}
    if mode == "palette":
        stored.putpalette([0, 0, 0, 255, 255, 255])
        options = {"transparency": 0}
    elif mode == "alpha":
        stored = Image.fromarray(np.asarray(mask, np.uint8)[..., None].repeat(4, 2) * 255)
    elif mode == "grey":
        stored = Image.fromarray(np.asarray(mask, np.uint8) * 255)
    content = BytesIO()
    stored.save(content, "PNG", **options)
    data = base64.b64encode(zlib.compress(content.getvalue())).decode()
    return {"geometryType": "bitmap", "bitmap": {"data": data, "origin": list(corner)}}


def figure(shape, exterior, *holes, title="cell"):
    """Return a figure of points."""
    return {"classTitle": title, "geometryType": shape, "points": {"exterior": exterior, "interior": [*holes]}}


CLASSES = [
    {"title": "nucleus", "shape": "bitmap", "color": "#F6FF00"},
    {"title": "cell", "shape": "polygon", "color": "#BE55CE"},
]
POLYGON = figure("polygon", [[2, 3], [8, 3], [8, 7], [2, 7]])


def annotation(file, *figures, size=SIZE):
    """Write the JSON file of an image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"description": "", "tags": [], "size": {"height": size[0], "width": size[1]}, "objects": [*figures]}
    file.write_text(json.dumps(content))


def supervisely(root, *data_sets):
    """Two images in each data set: a cell as a polygon, and a nucleus as a bitmap."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "meta.json").write_text(json.dumps({"classes": CLASSES, "tags": [], "projectType": "images"}))
    for data_set in data_sets or ("train", "val"):
        for name in ("a.jpeg", "b.png"):
            image(root / data_set / "img" / name)
            nucleus = {"classTitle": "nucleus", **bitmap(np.ones((5, 3)), (10, 5))}
            annotation(root / data_set / "ann" / f"{name}.json", POLYGON, nucleus)


def masks(folder, *boxes):
    """Write a PNG file for each object, in black and white."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, box in enumerate(boxes):
        drawn = np.zeros(SIZE, np.uint8)
        drawn[box] = 255
        Image.fromarray(drawn).save(folder / f"{number:04x}.png")


def data_science_bowl(root):
    """Two images for training, one of them with its objects, and one to be predicted, which has no masks."""
    for name in ("00ae65", "0bda51"):
        image(root / f"stage1_train/{name}/images/{name}.png")
        masks(root / f"stage1_train/{name}/masks", FIRST, SECOND)
    image(root / "stage1_test/0f1f89/images/0f1f89.png")
