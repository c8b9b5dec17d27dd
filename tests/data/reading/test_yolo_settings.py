# SPDX-License-Identifier: Apache-2.0
"""The YAML file of a YOLO data set: which one counts, what it names, and how far its paths are followed."""

import pytest

from tests.data.exports import write_picture, write_texts
from unisegment.data.problems import DataError, MissingDataError
from unisegment.data.reading.yolo_settings import find_settings

NAMES = "names: [can, bottle]\n"


def _images(root, split, below):
    return [image.relative_to(below).as_posix() for image in find_settings(root).images(split)]


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        ({"data.yaml": f"train: a\n{NAMES}", "other.yaml": f"train: b\n{NAMES}"}, "data.yaml"),
        ({"data.yaml": "unrelated: 1", "dataset.yaml": NAMES}, "dataset.yaml"),
        ({"coco8-seg.YML": f"train: a\n{NAMES}", "recipe.yaml": "data: {a: 1}", "broken.yaml": "["}, "coco8-seg.YML"),
        ({"names.yaml": NAMES, "splits.yaml": "train: a"}, None),
        ({"data.yaml": "- a list"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_one_file_counts(tmp_path, texts, name):
    write_texts(tmp_path, {"readme.txt": "", **texts})
    settings = find_settings(tmp_path)
    assert (settings and settings.file.name) == name


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"data.yaml": "train: [images\n"}, r"data\.yaml: line 2: this is not YAML"),
        ({"data.yaml": b"\xff"}, r"data\.yaml: line 1: the byte 0xff is not UTF-8"),
        ({"data.yaml": "a: &a [*a]"}, "contains itself"),
        ({"a.yaml": f"train: a\n{NAMES}", "b.yml": f"train: a\n{NAMES}"}, r"a\.yaml and b\.yml both describe it"),
    ],
)
def test_no_file_counts(tmp_path, texts, message):
    write_texts(tmp_path, texts)
    with pytest.raises(DataError, match=message):
        find_settings(tmp_path)


def test_splits_are_those_with_images(tmp_path):
    write_texts(tmp_path, {"data.yaml": f"train: [a, b]\nvalidation: c\nval:\ntest: ''\ndownload: x\n{NAMES}"})
    assert find_settings(tmp_path).splits == ["train", "validation"]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("names: [can, bottle]\nnc: 2\n", {0: "can", 1: "bottle"}),
        ("names: {7: can, 9: 3}\n", {7: "can", 9: 3}),
        ("nc: 2\n", {0: "class_0", 1: "class_1"}),
    ],
)
def test_names(tmp_path, content, names):
    write_texts(tmp_path, {"data.yaml": content})
    assert find_settings(tmp_path).names() == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: images\n", "`names` must be the names of the classes, a list or a dict by number, got None"),
        ("names: []\n", r"got \[\]"),
        ("names: can\n", "got 'can'"),
        ("names: [can]\nnc: 2\n", "`nc` is 2, but `names` has 1 names: correct one of them"),
        ("names: [can]\nnc: two\n", "nc must be a whole number"),
        ("nc: 9000000000\n", "nc must be a whole number"),
        ("nc: 0\n", "nc must be a whole number"),
    ],
)
def test_names_that_are_wrong(tmp_path, content, message):
    write_texts(tmp_path, {"data.yaml": content})
    with pytest.raises(DataError, match=rf"data\.yaml: .*{message}"):
        find_settings(tmp_path).names()


def test_places_are_followed(tmp_path):
    """Folders, lists, and lists of both; relative to `path`, to the YAML file or to a list; what is absolute is so."""
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for image in ("data/flat/a.jpg", "data/images/sub/b.PNG", "data/lists/c.jpg", "elsewhere/images/d.jpg"):
        write_picture(tmp_path / image, (2, 3), format="png")
    texts = {
        "lists/near.txt": "\ufeff./c.jpg\r\n\r\nc.jpg\r\n",
        "lists/far.txt": f"{root}/images/gone.jpg\n{elsewhere}/images/d.jpg\n",
        "lists/moved.txt": "/content/cans/data/images/gone.jpg\n/content/cans/data/images/sub/b.PNG\n",
        "images/readme.md": "",
    }
    settings = (
        f"train: [flat, images, lists/near.txt]\nval: lists/far.txt\ntest: [lists/moved.txt]\ndev: images\n{NAMES}"
    )
    write_texts(root, {"data.yaml": settings, **texts})
    assert _images(root, "train", root) == ["flat/a.jpg", "images/sub/b.PNG", "lists/c.jpg"]
    assert _images(root, "val", tmp_path) == ["data/images/gone.jpg", "elsewhere/images/d.jpg"]
    assert _images(root, "test", root) == ["images/gone.jpg", "images/sub/b.PNG"]
    for path in (elsewhere, f"{elsewhere}/images/.."):
        write_texts(root, {"data.yaml": f"path: {path}\ntrain: images\nval: flat\n{NAMES}"})
        assert _images(root, "train", tmp_path) == ["elsewhere/images/d.jpg"]
        assert _images(root, "val", tmp_path) == ["data/flat/a.jpg"]
    # A link is the user's own.
    (root / "linked").symlink_to(elsewhere)
    write_texts(root, {"data.yaml": f"path: linked\ntrain: images\n{NAMES}"})
    assert _images(root, "train", root) == ["linked/images/d.jpg"]


def test_the_images_of_another_split_are_not_found(tmp_path):
    """Of `../val/images`, which is not there, `images` alone would be; it holds the images of all splits."""
    write_picture(tmp_path / "images/a.jpg", (2, 3))
    write_texts(tmp_path, {"data.yaml": f"train: ../images\nval: ../val/images\n{NAMES}"})
    assert _images(tmp_path, "train", tmp_path) == ["images/a.jpg"]
    with pytest.raises(
        MissingDataError, match=r"data\.yaml: `val` is '\.\./val/images', but .* has no such folder or list"
    ):
        find_settings(tmp_path).images("val")


@pytest.mark.parametrize(
    ("content", "images", "message"),
    [
        ("train: ../../elsewhere/images", "", r"`train` is '\.\./\.\./elsewhere/images', but"),
        ("path: ../../elsewhere\ntrain: images/d.jpg", "", "`train` is 'images/d.jpg', but"),
        ("train: list.txt", "../../elsewhere/images/d.jpg", r"list\.txt: '\.\./\.\./elsewhere/images/d\.jpg' leads"),
        ("train: list.txt", "/x/a/c.jpg\n/x/../../../elsewhere/images/d.jpg", r"list\.txt: '/x/.*' leads out of"),
        ("train: list.txt", "a" * 300 + ".jpg\n../../d.jpg", r"list\.txt: '\.\./\.\./d\.jpg' leads out of"),
        ("train: list.txt", b"\xff\xfe", r"list\.txt: line 1: the byte 0xff is not UTF-8"),
        ("train: list.txt", "a.jpg\na\0b.jpg\n", r"list\.txt: line 2 must be a text of 1 to 1024 characters"),
        ("train: list.txt", "a" * 2000, r"list\.txt: line 1 must be a text"),
        ("train: {a: 1}", "", "train must be a text"),
        ("train: [1]", "", "train must be a text"),
        ("path: 3\ntrain: a", "", "path must be a text"),
        ("kpt_shape: [17, 3]\ntrain: a", "", "`kpt_shape` is for key points"),
    ],
)  # fmt: skip
def test_places_that_are_not_followed(tmp_path, content, images, message):
    root = tmp_path / "a/b"
    write_picture(tmp_path / "elsewhere/images/d.jpg", (2, 3))
    write_picture(root / "a/c.jpg", (2, 3))
    write_texts(root, {"data.yaml": f"{content}\n{NAMES}", "list.txt": images})
    with pytest.raises(DataError, match=message) as caught:
        find_settings(root).images("train")
    assert "\n" not in str(caught.value)
