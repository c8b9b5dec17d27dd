# SPDX-License-Identifier: Apache-2.0
"""Damage to the annotations of COCO data sets, instance and panoptic."""

import numpy as np
from PIL import Image

from tests.checking.damage_kinds import INSTANCES, PANOPTIC, PANOPTIC_PNG, add_copy, change_annotation, cut, damage
from tests.checking.data_sets import SIZES, WRITERS, edit_json, id_map, write_json, write_map
from unisegment.ops.masks import ids_to_rgb

HELD_OUT = "annotations/instances_val.json"


@damage("coco_instance", "broken-json", INSTANCES)
def empty_json(root):
    (root / INSTANCES).write_text("")


@damage("coco_instance", "broken-json", INSTANCES)
def truncated_json(root):
    cut(root / INSTANCES)


@damage("coco_instance", "broken-json", INSTANCES)
def json_in_another_encoding(root):
    (root / INSTANCES).write_bytes((root / INSTANCES).read_text().replace("cow", "Kühe").encode("latin-1"))


@damage("coco_instance", "broken-json", INSTANCES)
def json_is_a_list(root):
    write_json(root / INSTANCES, [1, 2])


@damage("coco_instance", "broken-json", INSTANCES)
def json_nested_too_deep(root):
    (root / INSTANCES).write_text('{"info": ' + "[" * 200_000 + "]" * 200_000 + "}")


@damage("coco_instance", "wrong-structure", INSTANCES)
def json_without_lists(root):
    write_json(root / INSTANCES, {})


@damage("coco_instance", "wrong-structure", INSTANCES, also=("unknown-image",))
def image_without_height(root):
    edit_json(root / INSTANCES, lambda content: content["images"][1].pop("height"))


@damage("coco_instance", "wrong-structure", INSTANCES)
def boxes_only(root):
    edit_json(root / INSTANCES, lambda content: content["annotations"][3].pop("segmentation"))


@damage("coco_instance", "wrong-structure", INSTANCES)
def flat_polygon(root):
    change_annotation(root, 3, segmentation=[2, 3, 13, 3, 13, 14, 2, 14])


@damage("coco_instance", "wrong-structure", INSTANCES)
def text_for_a_number(root):
    change_annotation(root, 3, segmentation=[[2, 3, "x", 3, 13, 14, 2, 14]])


@damage("coco_instance", "wrong-structure", INSTANCES, also=("unknown-image",))
def null_for_a_name(root):
    edit_json(root / INSTANCES, lambda content: content["images"][1].update(file_name=None))


@damage("coco_instance", "wrong-size", "train/b.jpg", 1, also=("wrong-run-length-size",))
def negative_height(root):
    edit_json(root / INSTANCES, lambda content: content["images"][1].update(height=-31))


@damage("coco_instance", "no-data", "")
def no_annotation_file(root):
    (root / INSTANCES).unlink()


@damage("coco_instance", "wrong-structure", INSTANCES)
def no_images_listed(root):
    edit_json(root / INSTANCES, lambda content: content.update(images=[], annotations=[]))


@damage("coco_instance", "wrong-structure", INSTANCES)
def no_categories_listed(root):
    edit_json(root / INSTANCES, lambda content: content.update(categories=[], annotations=[]))


@damage("coco_instance", "duplicate-image-id", INSTANCES)
def two_images_of_one_id(root):
    def change(content):
        content["images"][1].update(id=1)
        content["annotations"] = content["annotations"][6:]

    edit_json(root / INSTANCES, change)


@damage("coco_instance", "duplicate-category-id", INSTANCES, also=("category-not-learned",))
def two_categories_of_one_id(root):
    def change(content):
        content["categories"][1].update(id=1)
        for entry in content["annotations"]:
            entry["category_id"] = {1: 1, 4: 1, 9: 9}[entry["category_id"]]

    edit_json(root / INSTANCES, change)


@damage("coco_instance", "wrong-structure", INSTANCES, also=("unknown-category", "category-not-learned"))
def null_for_the_name_of_a_category(root):
    edit_json(root / INSTANCES, lambda content: content["categories"][1].update(name=None))


@damage("coco_instance", "wrong-structure", INSTANCES, also=("unknown-image",))
def true_for_an_id(root):
    edit_json(root / INSTANCES, lambda content: content["images"][0].update(id=True))


@damage("coco_instance", "duplicate-category-name", INSTANCES)
def two_categories_of_one_name(root):
    for file in (INSTANCES, HELD_OUT):
        edit_json(root / file, lambda content: content["categories"][1].update(name="cow"))


@damage("coco_instance", "category-not-learned", HELD_OUT)
def category_in_held_out_images_alone(root):
    edit_json(root / HELD_OUT, lambda content: content["categories"][1].update(name="donkey"))


@damage("coco_instance", "categories-differ", HELD_OUT)
def categories_of_held_out_images_in_another_order(root):
    def change(content):
        for entry, name in zip(content["categories"], ("dog", "cow"), strict=False):
            entry["name"] = name

    edit_json(root / HELD_OUT, change)


@damage("coco_instance", "duplicate-annotation-id", INSTANCES)
def two_annotations_of_one_id(root):
    change_annotation(root, 3, id=1)


@damage("coco_instance", "duplicate-image-name", INSTANCES)
def one_file_listed_twice(root):
    edit_json(root / INSTANCES, lambda content: add_copy(content["images"], 0, id=77))


@damage("coco_instance", "unknown-category", INSTANCES)
def category_that_nobody_lists(root):
    change_annotation(root, 3, category_id=70_000)


@damage("coco_instance", "unknown-image", INSTANCES)
def annotation_of_an_unknown_image(root):
    change_annotation(root, 3, image_id=77)


@damage("coco_instance", "unannotated-image", INSTANCES)
def image_without_annotations(root):
    edit_json(root / INSTANCES, lambda content: content.update(annotations=content["annotations"][3:]))


@damage("coco_instance", "unused-category", "train")
def category_without_objects(root):
    edit_json(root / INSTANCES, lambda content: add_copy(content["categories"], 0, id=11, name="unicorn"))


@damage("coco_instance", "bad-polygon", INSTANCES, 1)
def polygon_with_nan(root):
    change_annotation(root, 3, segmentation=[[2, 3, float("nan"), 3, 13, 14, 2, 14]])


@damage("coco_instance", "bad-polygon", INSTANCES, 1)
def polygon_with_infinity(root):
    change_annotation(root, 3, segmentation=[[2, 3, float("inf"), 3, 13, 14, 2, 14]])


@damage("coco_instance", "bad-polygon", INSTANCES, 1)
def polygon_of_odd_length(root):
    change_annotation(root, 3, segmentation=[[2, 3, 13, 3, 13, 14, 2]])


@damage("coco_instance", "degenerate-polygon", INSTANCES)
def polygon_of_two_points(root):
    change_annotation(root, 3, segmentation=[[2, 3, 13, 14]])


@damage("coco_instance", "degenerate-polygon", INSTANCES)
def polygon_without_area(root):
    change_annotation(root, 3, segmentation=[[2, 3, 7, 3, 13, 3]])


@damage("coco_instance", "invisible-annotation", "train/b.jpg")
def object_between_pixels(root):
    change_annotation(root, 3, segmentation=[[2.1, 3.1, 2.2, 3.1, 2.2, 3.2]])


@damage("coco_instance", "many-objects", "train/b.jpg")
def more_objects_than_predictions(root):
    def add_many(content):
        entry = content["annotations"][3]
        content["annotations"] += [
            {**entry, "id": 1000 + number, "segmentation": [[number % 19, 3, 23, 3, 23, 14 + number // 19, 2, 14]]}
            for number in range(100)
        ]

    edit_json(root / INSTANCES, add_many)


@damage("coco_instance", "empty-annotation", INSTANCES)
def object_without_polygons(root):
    change_annotation(root, 3, segmentation=[])


@damage("coco_instance", "outside-image", INSTANCES)
def polygon_outside(root):
    change_annotation(root, 3, segmentation=[[25, 3, 36, 3, 36, 14, 25, 14]])


@damage("coco_instance", "bad-polygon", INSTANCES, 1)
def polygon_far_outside(root):
    change_annotation(root, 3, segmentation=[[2, 3, 2**32, 3, 13, 14, 2, 14]])


@damage("coco_instance", "bad-polygon", INSTANCES, 1)
def polygon_beyond_all_numbers(root):
    change_annotation(root, 3, segmentation=[[2, 3, -1e300, 3, 13, 14, 2, 14]])


@damage("coco_instance", "outside-image", INSTANCES)
def polygon_partly_outside(root):
    change_annotation(root, 3, segmentation=[[2, 3, 29, 3, 29, 14, 2, 14]])


@damage("coco_instance", "wrong-run-length-size", INSTANCES, 1)
def run_lengths_of_another_size(root):
    change_annotation(root, 3, segmentation={"size": [23, 31], "counts": [5, 7, 31 * 23 - 12]})


@damage("coco_instance", "bad-run-lengths", INSTANCES, 1)
def run_lengths_too_long(root):
    change_annotation(root, 3, segmentation={"size": [31, 23], "counts": [5, 7, 31 * 23]})


@damage("coco_instance", "bad-run-lengths", INSTANCES, 1)
def run_lengths_too_short(root):
    change_annotation(root, 3, segmentation={"size": [31, 23], "counts": [5, 7, 31]})


@damage("coco_instance", "bad-run-lengths", INSTANCES, 1)
def run_lengths_that_are_no_code(root):
    change_annotation(root, 3, segmentation={"size": [31, 23], "counts": "hello world"})


@damage("coco_instance", "duplicate-annotation", INSTANCES)
def object_annotated_twice(root):
    edit_json(root / INSTANCES, lambda content: add_copy(content["annotations"], 3, id=77))


@damage("coco_instance", "odd-isthing", INSTANCES)
def text_for_isthing(root):
    edit_json(root / INSTANCES, lambda content: content["categories"][1].update(isthing="0"))


@damage("coco_panoptic", "odd-isthing", PANOPTIC)
def two_for_isthing(root):
    edit_json(root / PANOPTIC, lambda content: content["categories"][1].update(isthing=2))


@damage("coco_panoptic", "odd-iscrowd", PANOPTIC)
def text_for_iscrowd(root):
    edit_json(root / PANOPTIC, lambda content: content["annotations"][1]["segments_info"][0].update(iscrowd="0"))


def _all_crowds(content):
    for entry in content["annotations"]:
        entry["iscrowd"] = 1


@damage("coco_instance", "nothing-to-learn", "train")
def crowds_only(root):
    edit_json(root / INSTANCES, _all_crowds)


@damage("coco_panoptic", "nothing-to-learn", "train")
def panoptic_crowds_only(root):
    def change(content):
        for entry in content["annotations"]:
            for segment in entry["segments_info"]:
                segment["iscrowd"] = 1

    edit_json(root / PANOPTIC, change)


@damage("coco_instance", "nothing-to-evaluate", "val")
def held_out_crowds_only(root):
    edit_json(root / INSTANCES.replace("train", "val"), _all_crowds)


@damage("coco_instance", "odd-iscrowd", INSTANCES)
def crowd_of_two(root):
    change_annotation(root, 3, iscrowd=2)


@damage("coco_instance", "box-disagrees", INSTANCES)
def box_of_corners(root):
    change_annotation(root, 3, bbox=[2, 3, 13, 14])


@damage("coco_instance", "area-disagrees", INSTANCES)
def area_of_another_size(root):
    change_annotation(root, 3, area=1210)


@damage("coco_panoptic", "missing-label-map", PANOPTIC_PNG, 1)
def missing_panoptic_png(root):
    (root / PANOPTIC_PNG).unlink()


@damage("coco_panoptic", "truncated-image", PANOPTIC_PNG, 1)
def truncated_panoptic_png(root):
    cut(root / PANOPTIC_PNG, 0.7)


@damage("coco_panoptic", "wrong-size", PANOPTIC_PNG, 1)
def panoptic_png_of_another_size(root):
    write_map(root / PANOPTIC_PNG, ids_to_rgb(id_map((23, 31)).astype(np.int64) * 70_000))


@damage("coco_panoptic", "id-too-large", PANOPTIC_PNG, 1)
def id_70000_in_an_8_bit_png(root):
    write_map(root / PANOPTIC_PNG, id_map(SIZES["b"]))


@damage("coco_panoptic", "label-map-channels", PANOPTIC_PNG, 1)
def panoptic_png_of_one_channel(root):
    write_map(root / PANOPTIC_PNG, id_map(SIZES["b"]))
    small = {70_000: 1, 280_000: 4, 630_000: 9}

    def change(content):
        for segment in content["annotations"][1]["segments_info"]:
            segment["id"] = small[segment["id"]]

    edit_json(root / PANOPTIC, change)


@damage("coco_panoptic", "lossy-label-map", PANOPTIC_PNG, 1)
def panoptic_jpeg(root):
    ids = id_map(SIZES["b"]).astype(np.int64) * 70_000
    Image.fromarray(ids_to_rgb(ids)).save(root / PANOPTIC_PNG, format="JPEG")


@damage("coco_panoptic", "unlisted-segment", PANOPTIC_PNG, 1)
def segment_that_nobody_lists(root):
    edit_json(root / PANOPTIC, lambda content: content["annotations"][1]["segments_info"].pop())


@damage("coco_panoptic", "undrawn-segment", PANOPTIC_PNG, 1)
def segment_that_nobody_drew(root):
    edit_json(root / PANOPTIC, lambda content: add_copy(content["annotations"][1]["segments_info"], 0, id=99))


@damage("coco_panoptic", "duplicate-segment-id", PANOPTIC, 1)
def one_segment_listed_twice(root):
    edit_json(root / PANOPTIC, lambda content: add_copy(content["annotations"][1]["segments_info"], 0))


@damage("coco_panoptic", "id-too-large", PANOPTIC, 1, also=("undrawn-segment", "unlisted-segment"))
def segment_id_of_25_bits(root):
    edit_json(root / PANOPTIC, lambda content: content["annotations"][1]["segments_info"][0].update(id=2**24 + 3))


@damage("coco_panoptic", "id-too-large", PANOPTIC, 1, also=("undrawn-segment", "unlisted-segment"))
def segment_id_of_40_bits(root):
    edit_json(root / PANOPTIC, lambda content: content["annotations"][1]["segments_info"][0].update(id=2**40))


@damage("coco_panoptic", "unknown-category", PANOPTIC)
def segment_of_an_unknown_category(root):
    edit_json(root / PANOPTIC, lambda content: content["annotations"][1]["segments_info"][0].update(category_id=5))


@damage("coco_panoptic", "unknown-image", PANOPTIC)
def segments_of_an_unknown_image(root):
    edit_json(root / PANOPTIC, lambda content: content["annotations"][1].update(image_id=77))


@damage("coco_panoptic", "wrong-structure", PANOPTIC, also=("no-images",))
def detections_for_segments(root):
    other = root / "other"
    WRITERS["coco_instance"](other)
    (root / PANOPTIC).write_bytes((other / INSTANCES).read_bytes())


@damage("coco_panoptic", "duplicate-image-id", PANOPTIC)
def two_panoptic_images_of_one_id(root):
    edit_json(root / PANOPTIC, lambda content: add_copy(content["images"], 0))


@damage("coco_panoptic", "duplicate-category-id", PANOPTIC)
def two_panoptic_categories_of_one_id(root):
    edit_json(root / PANOPTIC, lambda content: add_copy(content["categories"], 0, name="calf"))


@damage("coco_panoptic", "unannotated-image", PANOPTIC)
def panoptic_image_without_annotation(root):
    edit_json(root / PANOPTIC, lambda content: content["annotations"].pop(1))


@damage("coco_panoptic", "duplicate-annotation", PANOPTIC)
def panoptic_image_annotated_twice(root):
    edit_json(root / PANOPTIC, lambda content: add_copy(content["annotations"], 1))


@damage("coco_panoptic", "unlisted-label-map", "annotations/panoptic_train/more.png")
def panoptic_png_that_nobody_lists(root):
    write_map(root / "annotations/panoptic_train/more.png", np.zeros((5, 7, 3), np.uint8))


@damage("coco_panoptic", "nothing-labelled", PANOPTIC_PNG)
def panoptic_png_of_void(root):
    write_map(root / PANOPTIC_PNG, np.zeros((31, 23, 3), np.uint8))
    edit_json(root / PANOPTIC, lambda content: content["annotations"][1].update(segments_info=[]))
