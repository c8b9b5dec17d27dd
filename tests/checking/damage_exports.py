# SPDX-License-Identifier: Apache-2.0
"""Damage to what tools export: masks of objects in PNG files and in JSON."""

import numpy as np
from PIL import Image

from tests.checking.damage_kinds import cut, damage
from tests.checking.data_sets import SIZES, edit_json, write_map
from tests.data.mask_trees import bitmap, palette_png

FIGURES = "train/ann/b.jpg.json"
CLASS_PNG, OBJECT_PNG = "SegmentationClass/b.png", "SegmentationObject/b.png"
OBJECT = "train/masks/b/4.png"


def change_figure(root, **changes):
    edit_json(root / FIGURES, lambda content: content["objects"][1].update(changes))


def numbers_in(file):
    with Image.open(file) as image:
        return np.array(image)


@damage("supervisely", "broken-json", FIGURES, 1)
def cut_annotation_of_an_image(root):
    cut(root / FIGURES)


@damage("supervisely", "unknown-category", FIGURES, 1)
def class_that_meta_does_not_list(root):
    change_figure(root, classTitle="horse")


@damage("supervisely", "bad-polygon", FIGURES, 1)
def figure_far_outside(root):
    change_figure(root, points={"exterior": [[0, 0], [999, 0], [0, 9]], "interior": []})


@damage("supervisely", "bad-bitmap", FIGURES, 1)
def bitmap_beyond_its_image(root):
    change_figure(root, **bitmap(np.ones((9, 9)), (SIZES["b"][1] - 8, 0)))


@damage("supervisely", "bad-bitmap", FIGURES, 1)
def bitmap_in_no_base64(root):
    change_figure(root, geometryType="bitmap", bitmap={"data": "eJw", "origin": [0, 0]})


@damage("supervisely", "empty-annotation", FIGURES)
def figure_without_area(root):
    change_figure(root, geometryType="line")


@damage("pascal_voc", "unknown-id", CLASS_PNG, 1)
def class_beyond_the_palette(root):
    numbers = numbers_in(root / CLASS_PNG)
    numbers[0, 0] = 99
    palette_png(root / CLASS_PNG, numbers)


@damage("pascal_voc", "unlisted-segment", OBJECT_PNG, 1)
def object_on_background(root):
    numbers = numbers_in(root / OBJECT_PNG)
    numbers[-1, -1] = 9
    palette_png(root / OBJECT_PNG, numbers)


@damage("pascal_voc", "wrong-size", OBJECT_PNG, 1)
def map_of_objects_of_another_size(root):
    palette_png(root / OBJECT_PNG, numbers_in(root / OBJECT_PNG)[1:])


@damage("pascal_voc", "truncated-image", OBJECT_PNG, 1)
def cut_map_of_objects(root):
    cut(root / OBJECT_PNG)


@damage("pascal_voc", "lossy-label-map", OBJECT_PNG, 1)
def map_of_objects_as_jpeg(root):
    Image.fromarray(numbers_in(root / OBJECT_PNG)).save(root / OBJECT_PNG, "JPEG")


@damage("png_per_object", "wrong-size", OBJECT, 1)
def mask_of_another_size(root):
    write_map(root / OBJECT, numbers_in(root / OBJECT)[1:])


@damage("png_per_object", "truncated-image", OBJECT, 1)
def cut_mask(root):
    cut(root / OBJECT)
