# SPDX-License-Identifier: Apache-2.0
"""Damage to images, and to folders of images and PNG files."""

import struct
import zlib

import numpy as np
from PIL import Image

from tests.checking.damage_kinds import add_copy, cut, damage
from tests.checking.data_sets import SIZES, edit_json, id_map, write_json, write_map, write_photo


@damage("coco_instance", "truncated-image", "train/b.jpg", 1)
def truncated_jpeg(root):
    cut(root / "train/b.jpg")


@damage("coco_instance", "missing-image", "train/b.jpg", 1)
def missing_image(root):
    (root / "train/b.jpg").unlink()


@damage("coco_instance", "missing-image", "train/b.jpg", 1)
def other_case_of_name(root):
    (root / "train/b.jpg").rename(root / "train/B.JPG")


@damage("coco_instance", "missing-image", "train/c.jpg", 2)
def dangling_link(root):
    (root / "train/c.jpg").unlink()
    (root / "train/c.jpg").symlink_to("elsewhere.jpg")


@damage("coco_instance", "not-a-file", "train/b.jpg", 1)
def directory_named_jpg(root):
    (root / "train/b.jpg").unlink()
    (root / "train/b.jpg").mkdir()


@damage("coco_instance", "empty-file", "train/b.jpg", 1)
def empty_image(root):
    (root / "train/b.jpg").write_bytes(b"")


@damage("coco_instance", "not-an-image", "train/b.jpg", 1)
def page_named_jpg(root):
    (root / "train/b.jpg").write_text("<html>404 not found</html>")


@damage("png_semantic", "broken-image", "images/train/b.png", 1)
def wrong_checksum(root):
    (root / "images/train/b.jpg").unlink()
    write_photo(root / "images/train/b.png", SIZES["b"])
    content = bytearray((root / "images/train/b.png").read_bytes())
    content[content.index(b"IDAT") + 20] ^= 255
    (root / "images/train/b.png").write_bytes(content)


@damage("coco_instance", "too-large-image", "train/b.jpg", 1)
def gigantic_header(root):
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    content = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    (root / "train/b.jpg").write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@damage("coco_instance", "wrong-size", "train/b.jpg", 1)
def other_size(root):
    write_photo(root / "train/b.jpg", (31, 29))


@damage("coco_instance", "exif-rotated", "train/b.jpg", 1)
def rotated_by_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_photo(root / "train/b.jpg", SIZES["b"], exif=exif)


@damage("coco_instance", "exif-turned", "train/b.jpg")
def upside_down_by_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 3
    write_photo(root / "train/b.jpg", SIZES["b"], exif=exif)


@damage("coco_instance", "ending-disagrees", "train/b.jpg")
def png_named_jpg(root):
    write_photo(root / "train/b.jpg", SIZES["b"], format="PNG")


@damage("png_semantic", "unusual-image", "images/train/b.png")
def sixteen_bits(root):
    (root / "images/train/b.jpg").unlink()
    write_map(root / "images/train/b.png", np.arange(31 * 23, dtype=np.uint16).reshape(31, 23) * 80)


@damage("png_semantic", "few-levels", "images/train/b.png")
def sixteen_bits_of_which_few_are_used(root):
    (root / "images/train/b.jpg").unlink()
    write_map(root / "images/train/b.png", np.arange(31 * 23, dtype=np.uint16).reshape(31, 23))


@damage("png_semantic", "unusual-image", "images/train/b.png")
def alpha_channel(root):
    (root / "images/train/b.jpg").unlink()
    write_map(root / "images/train/b.png", np.full((31, 23, 4), 77, np.uint8))


@damage("coco_instance", "unusual-image", "train/b.jpg")
def colours_for_print(root):
    with Image.open(root / "train/b.jpg") as image:
        image.convert("CMYK").save(root / "train/b.jpg")


@damage("coco_instance", "unlisted-image", "train/more.jpg")
def image_that_nobody_lists(root):
    write_photo(root / "train/more.jpg", (19, 17))


@damage("png_semantic", "duplicate-image", "images/train/b.jpg")
def same_image_twice(root):
    for name in ("images/{}/{}.jpg", "labels/{}/{}.png"):
        (root / name.format("train", "b")).write_bytes((root / name.format("train", "a")).read_bytes())


@damage("png_semantic", "leak", "images/val/e.jpg")
def held_out_image_is_learned(root):
    for name in ("images/{}/{}.jpg", "labels/{}/{}.png"):
        (root / name.format("val", "e")).write_bytes((root / name.format("train", "a")).read_bytes())


@damage("png_semantic", "same-name", "images/val/a.jpg")
def one_name_in_both_parts(root):
    for name in ("images/val/{}.jpg", "labels/val/{}.png"):
        (root / name.format("e")).rename(root / name.format("a"))


@damage("png_semantic", "missing-label-map", "labels/train/b.png")
def missing_labels(root):
    (root / "labels/train/b.png").unlink()


@damage("png_semantic", "unlisted-label-map", "labels/train/more.png")
def labels_without_image(root):
    write_map(root / "labels/train/more.png", id_map((19, 17)))


@damage("png_semantic", "folder-named-as-image", "images/train/more.jpg")
def folder_among_images(root):
    (root / "images/train/more.jpg").mkdir()


@damage("png_semantic", "same-name-images", "images/train/b.jpg")
def two_images_of_one_name(root):
    write_photo(root / "images/train/b.png", SIZES["b"])


@damage("png_semantic", "unknown-id", "labels/train/b.png", 1)
def label_that_nobody_lists(root):
    write_map(root / "labels/train/b.png", np.where(id_map(SIZES["b"]) == 4, 5, 9).astype(np.uint8))


@damage("png_semantic", "unknown-id", "labels/train/b.png", 1)
def colours_for_labels(root):
    colors = np.array([(128, 64, 128), (220, 20, 60), *[(70, 130, 180)] * 8], np.uint8)
    write_map(root / "labels/train/b.png", colors[id_map(SIZES["b"])])


@damage("png_semantic", "wrong-size", "labels/train/b.png", 1)
def labels_of_another_size(root):
    write_map(root / "labels/train/b.png", id_map((29, 31)))


@damage("png_semantic", "exif-rotated", "labels/train/b.png", 1)
def labels_of_a_turned_image(root):
    exif = Image.Exif()
    exif[0x0112] = 8
    write_photo(root / "images/train/b.jpg", SIZES["b"], exif=exif)


@damage("png_semantic", "label-map-channels", "labels/train/b.png", 1)
def labels_with_alpha(root):
    write_map(root / "labels/train/b.png", np.repeat(id_map(SIZES["b"])[..., None], 4, axis=2))


@damage("png_semantic", "lossy-label-map", "labels/train/b.png", 1)
def labels_as_jpeg(root):
    Image.fromarray(id_map(SIZES["b"])).save(root / "labels/train/b.png", format="JPEG")


@damage("png_semantic", "empty-file", "labels/train/b.png", 1)
def empty_labels(root):
    (root / "labels/train/b.png").write_bytes(b"")


@damage("png_semantic", "truncated-image", "labels/train/b.png", 1)
def truncated_labels(root):
    cut(root / "labels/train/b.png", 0.7)


@damage("png_semantic", "blended-labels", "labels/train/b.png")
def smoothly_resized_labels(root):
    write_json(root / "categories.json", [f"class {number}" for number in range(200)])
    steps = Image.fromarray(np.array([[3, 90, 180], [170, 20, 60]], np.uint8))
    steps.resize((23, 31), Image.Resampling.BILINEAR).save(root / "labels/train/b.png")


@damage("png_semantic", "nothing-labelled", "labels/train/b.png")
def labels_of_void(root):
    write_map(root / "labels/train/b.png", np.full((31, 23), 255, np.uint8))


@damage("png_semantic", "mostly-unlabelled", "labels/train/b.png")
def labels_of_little(root):
    labels = np.zeros((31, 23), np.uint8)
    labels[3:7, 2:19] = 4
    write_map(root / "labels/train/b.png", labels)


@damage("png_semantic", "two-numbers", "train")
def black_and_white_labels(root):
    write_json(root / "categories.json", ["background", "lesion"])
    for file in root.glob("labels/*/*.png"):
        labels = np.zeros(np.asarray(Image.open(file)).shape, np.uint8)
        labels[3:7, 2:9] = 255
        write_map(file, labels)


@damage("png_semantic", "not-opened", "")
def broken_categories(root):
    (root / "categories.json").write_text('[{"id": 1, "na')


@damage("png_semantic", "no-data", "")
def missing_categories(root):
    (root / "categories.json").unlink()


@damage("png_semantic", "not-opened", "")
def categories_of_one_id(root):
    edit_json(root / "categories.json", lambda content: content[1].update(id=1))


@damage("png_semantic", "category-too-large", "train")
def category_70000(root):
    edit_json(root / "categories.json", lambda content: add_copy(content, 0, id=70_000, name="unicorn"))


@damage("png_semantic", "no-data", "")
def no_images_at_all(root):
    (root / "images/train").rename(root / "images/elsewhere")


@damage("png_instance", "unknown-id", "instances/train/b.png", 1)
def object_of_an_unknown_category(root):
    write_map(root / "instances/train/b.png", np.full((31, 23), 5001, np.uint16))


@damage("png_instance", "missing-label-map", "instances/train/b.png")
def missing_objects(root):
    (root / "instances/train/b.png").unlink()


@damage("png_instance", "truncated-image", "images/train/b.jpg", 1)
def jpeg_cut_in_its_header(root):
    (root / "images/train/b.jpg").write_bytes((root / "images/train/b.jpg").read_bytes()[:300])
