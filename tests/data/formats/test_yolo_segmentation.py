# SPDX-License-Identifier: Apache-2.0
"""YOLO's segmentation format: what Ultralytics, Roboflow, CVAT and Label Studio write opens as it lies.

Source:
    https://docs.ultralytics.com/datasets/segment/, https://docs.roboflow.com/datasets/exporting-data,
    https://docs.cvat.ai/docs/dataset_management/formats/format-yolo-ultralytics/, https://labelstud.io/guide/export.
"""

import pickle
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from tests.data.exports import objects_of, write_picture, write_texts
from unisegment.data.formats import guess_format, open_data_set, yolo_segmentation
from unisegment.data.problems import CollectedProblems, DataError, MissingDataError, Problems

(YOLO,) = yolo_segmentation.FORMATS
# Of an image of 8x10 (height x width): from (1, 2) to (6, 6), and from (5, 4) to (10, 8), which share two pixels.
BOTTLE = "1 0.1 0.25 0.6 0.25 0.6 0.75 0.1 0.75"
CAN = "0 0.5 0.5 1 0.5 1 1 0.5 1"
OBJECTS = [(1, (1, 2, 6, 6), 20), (0, (5, 4, 10, 8), 20)]
NAMES = "nc: 2\nnames: ['can', 'bottle']\n"


def _open(root, split="train", problems=None, **options):
    found = YOLO.find(root, split)
    assert found is not None
    return YOLO.open(found, problems=problems or Problems(), **options)


def _roboflow(root, settings=None):
    """`../train/images` of Roboflow means the folder beside data.yaml. Line ends and marks are those of Windows."""
    for folder in ("train", "valid"):
        for name in "ab":
            write_picture(root / f"{folder}/images/{name}.jpg", (8, 10))
    paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
    write_texts(
        root,
        {
            "data.yaml": settings or f"{paths}{NAMES}",
            "train/labels/a.txt": f"\ufeff{BOTTLE}\r\n\r\n{CAN}\r\n",
            "train/labels/b.txt": "",
            "valid/labels/a.txt": CAN,
        },
    )


def test_roboflow(tmp_path):
    _roboflow(tmp_path)
    assert YOLO.fits(tmp_path, ["train", "val"])
    first, second = images = pickle.loads(pickle.dumps(_open(tmp_path)))
    assert images.id2label == {0: "can", 1: "bottle"}
    assert images.stuff_label_ids == []
    assert objects_of(first) == OBJECTS
    assert (first.image_id, first.file_name) == ("a", str(tmp_path / "train/images/a.jpg"))
    assert first.target.layers is not None
    assert (len(second.target), second.target.size) == (0, (8, 10))
    assert [images.labels_in(place) for place in range(2)] == [{0, 1}, set()]
    assert [images.files(place).num_annotations for place in range(2)] == [2, 0]
    assert images.files(0).source == tmp_path / "train/labels/a.txt"
    # An image without a file beside it shows nothing, as Ultralytics has it.
    assert [objects_of(sample) for sample in _open(tmp_path, "val")] == [OBJECTS[1:], []]
    with pytest.raises(MissingDataError, match=r"data\.yaml: `test` is '\.\./test/images', but .* has no such folder"):
        _open(tmp_path, "test")


@pytest.mark.parametrize(
    "settings",
    [
        f"path: /content/datasets/Cans-3\ntrain: train/images\nval: valid/images\n{NAMES}",
        f"train: /content/Cans-3/train/images\nval: /content/Cans-3/valid/images\n{NAMES}",
        f"train: ..\\train\\images\nvalidation: C:\\cans\\valid\\images\n{NAMES}",
        f"path: ../cans\ntrain: train\nval: [valid/images]\n{NAMES}",
        "train: train/images\nval: valid/images\nnames: {0: can, 1: bottle}\n",
        f"\ufeff{NAMES}",
    ],
)
def test_what_was_right_elsewhere_is_found_here(tmp_path, settings):
    _roboflow(tmp_path, settings)
    assert [objects_of(sample) for sample in _open(tmp_path)] == [OBJECTS, []]
    assert len(_open(tmp_path, "val")) == 2


def test_ultralytics(tmp_path):
    """`path` is in Ultralytics' folder of data sets, which is not here; names are a dict; `test` has no value."""
    settings = (
        "# COCO8-seg\npath: coco8-seg # dataset root dir\ntrain: images/train # 1 image\nval: images/val\ntest:\n"
        "names:\n  0: can\n  1: bottle\ndownload: |\n  print('no')\n"
    )
    write_texts(tmp_path, {"coco8-seg.yaml": settings, "labels/train/000000000009.txt": f"{BOTTLE}\n"})
    write_texts(tmp_path, {"labels/val/7.txt": f"{CAN}\n", "other.yaml": "names: [1]\n"})
    write_picture(tmp_path / "images/train/000000000009.jpg", (8, 10))
    write_picture(tmp_path / "images/val/7.PNG", (8, 10), format="png")
    assert YOLO.splits(tmp_path) == ["train", "val"]
    (sample,), (held_out,) = _open(tmp_path), _open(tmp_path, "val")
    assert (sample.image_id, objects_of(sample)) == ("000000000009", OBJECTS[:1])
    assert objects_of(held_out) == OBJECTS[1:]


def test_cvat(tmp_path):
    """Splits are lists of images. There is no list of `val`."""
    for name in ("b", "a"):
        write_picture(tmp_path / f"images/train/{name}.jpg", (8, 10))
    write_texts(
        tmp_path,
        {
            "data.yaml": "names:\n  0: can\n  1: bottle\npath: .\ntrain: train.txt\n",
            "train.txt": "images/train/b.jpg\r\nimages/train/a.jpg\r\n",
            "labels/train/a.txt": f"{BOTTLE}\n{CAN}",
        },
    )
    assert [objects_of(sample) for sample in _open(tmp_path)] == [OBJECTS, []]
    assert YOLO.find(tmp_path, "val") is None


def test_label_studio(tmp_path):
    write_picture(tmp_path / "images/3f2-a.jpg", (8, 10))
    write_texts(tmp_path, {"labels/3f2-a.txt": CAN, "classes.txt": "can\nbottle\n", "notes.json": "{}"})
    (sample,) = images = _open(tmp_path)
    assert YOLO.fits(tmp_path, ["train", "val"])
    assert images.id2label == {0: "can", 1: "bottle"}
    assert objects_of(sample) == OBJECTS[1:]
    assert YOLO.find(tmp_path, "val") is None


@pytest.mark.parametrize(("images", "labels"), [("images/train", "labels/train"), ("train/images", "train/labels")])
def test_a_tree_without_yaml_needs_names(tmp_path, images, labels):
    write_picture(tmp_path / images / "a/b.jpg", (8, 10))
    write_texts(tmp_path, {f"{labels}/a/b.txt": CAN})
    with pytest.raises(MissingDataError, match=r"data\.categories=\[cat, dog\]"):
        _open(tmp_path)
    (sample,) = images = _open(tmp_path, categories=["can", "bottle"])
    assert (objects_of(sample), images.id2label) == (OBJECTS[1:], {0: "can", 1: "bottle"})
    categories = [{"id": 0, "name": "can", "isthing": 1}, {"id": 5, "name": "floor", "isthing": 0}]
    assert _open(tmp_path, categories=categories).stuff_label_ids == [1]


def test_maps_of_labels_are_of_another_format(tmp_path):
    write_picture(tmp_path / "images/train/a.jpg", (8, 10))
    write_picture(tmp_path / "labels/train/a.png", (8, 10))
    assert not YOLO.fits(tmp_path, ["train", "val"])


def test_places_are_followed_as_far_as_they_may(tmp_path):
    """A list beside its images, one of absolute paths, folders of images without `images`, and links."""
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write_picture(elsewhere / "images/a.jpg", (8, 10))
    write_picture(root / "flat/a.jpg", (8, 10))
    write_picture(root / "images/b.jpg", (8, 10))
    write_texts(elsewhere, {"labels/a.txt": BOTTLE})
    write_texts(root, {"flat/a.txt": CAN, "labels/b.txt": "", "lists/near.txt": "./b.jpg\nb.jpg\n", "lists/b.jpg": ""})
    settings = f"val: [flat, {elsewhere}/images, lists/far.txt]\ntrain: lists/near.txt\n{NAMES}"
    write_texts(root, {"data.yaml": settings, "lists/far.txt": f"{root}/images/b.jpg\n{elsewhere}/images/a.jpg\n"})
    images = _open(root, "val")
    assert [str(images.files(place).image.relative_to(tmp_path)) for place in range(3)] == [
        "data/flat/a.jpg", "data/images/b.jpg", "elsewhere/images/a.jpg",
    ]  # fmt: skip
    # Two images are called "a".
    assert [sample.image_id for sample in images] == ["data/flat/a", "data/images/b", "elsewhere/images/a"]
    assert [objects_of(sample) for sample in images] == [OBJECTS[1:], [], OBJECTS[:1]]
    (root / "images2").symlink_to(elsewhere / "images")
    (root / "labels2").symlink_to(elsewhere / "labels")
    write_texts(root, {"data.yaml": f"train: images2\n{NAMES}", "images2/a.txt": BOTTLE})
    assert [objects_of(sample) for sample in _open(root)] == [OBJECTS[:1]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"data.yaml": f"train: bare\n{NAMES}"},
            r"none of 1 images has a text file, such as .*bare/a\.txt for .*a\.jpg",
        ),
        ({"data.yaml": f"train: empty\n{NAMES}", "empty/readme.md": ""}, "there are no images of the split 'train'"),
        ({"data.yaml": "train: images\nnames: {a: can}\n"}, r"data\.yaml: names .*: the key 'a' is no whole number"),
        ({"data.yaml": "train: images\nnames: [[can]]\n"}, "the name of a category must be a text"),
    ],
)
def test_what_cannot_be_opened_is_said(tmp_path, texts, message):
    write_picture(tmp_path / "images/a.jpg", (8, 10))
    write_picture(tmp_path / "bare/a.jpg", (8, 10))
    write_texts(tmp_path, {"labels/a.txt": CAN, **texts})
    with pytest.raises(ValueError, match=message):
        _open(tmp_path)


def test_several_images_may_have_one_name(tmp_path, monkeypatch):
    write_texts(tmp_path, {"data.yaml": f"train: [one/images, two/images]\n{NAMES}", "one/labels/a.txt": CAN})
    for folder in ("one", "two"):
        write_picture(tmp_path / f"{folder}/images/a.jpg", (8, 10))
    assert [sample.image_id for sample in _open(tmp_path)] == ["one/images/a", "two/images/a"]
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path, {"data.yaml": f"train: [../one/images, {tmp_path}/two/images]\n{NAMES}"})
    shown = {sample.image_id: objects_of(sample) for sample in _open(Path())}
    assert shown == {"one/images/a": OBJECTS[1:], "two/images/a": []}


def test_fractions_are_those_of_the_upright_image(tmp_path):
    """Stored as 10x8 (height x width) and turned by a quarter, it is seen as 8x10."""
    _roboflow(tmp_path)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    write_picture(tmp_path / "train/images/a.jpg", (10, 8), exif=exif)
    sample = _open(tmp_path)[0]
    assert sample.image.shape == (8, 10, 3)
    assert objects_of(sample) == OBJECTS


def test_void_classes_are_left_out(tmp_path):
    _roboflow(tmp_path)
    images = _open(tmp_path, void_ids=[0])
    assert images.id2label == {0: "bottle"}
    assert objects_of(images[0]) == [(0, (1, 2, 6, 6), 20)]
    assert images.labels_in(0) == {0}
    with pytest.raises(ValueError, match="leave at least one"):
        _open(tmp_path, void_ids=[0, 1])


def test_what_is_doubtful_is_told(tmp_path):
    """Of images that cannot be read nothing is told: to read them tells it."""
    _roboflow(tmp_path)
    lines = [CAN, "1 0.1 0.2 0.3 0.4 0.5", CAN]
    write_texts(
        tmp_path,
        {"train/labels/a.txt": "\n".join([CAN, "0", "0 0 0 1.2 0 1 1", CAN]), "valid/labels/a.txt": "\n".join(lines)},
    )
    problems = CollectedProblems(thorough=True)
    assert len(_open(tmp_path, problems=problems)) == len(_open(tmp_path, "val", problems=problems)) == 2
    told = {found["kind"]: [item["detail"] for item in found["listed"]] for found in problems.as_dicts()}
    assert told == {
        "degenerate-polygon": ["line 2: a polygon has fewer than three points; it is left out."],
        "outside-image": ["line 3: a polygon reaches out of its image; that is cut off."],
        "duplicate-annotation": ["line 4: the same polygon is on a line before."],
        "unannotated-image": [
            f"there is no {tmp_path}/valid/labels/b.txt: the image is taken for one without objects."
        ],
    }
    assert objects_of(_open(tmp_path)[0])[0] == OBJECTS[1]
    hasty = CollectedProblems()
    _open(tmp_path, "val", problems=hasty)
    assert hasty.as_dicts() == []


def test_lines_that_are_wrong_are_named(tmp_path):
    _roboflow(tmp_path)
    write_texts(tmp_path, {"train/labels/a.txt": f"{CAN}\n\n0 0.5 0.5 0.2 0.2\n"})
    images = _open(tmp_path)
    assert images.files(0).num_annotations == 0
    for read in (images.__getitem__, images.labels_in):
        with pytest.raises(DataError, match=r"train/labels/a\.txt: line 3: four numbers behind the class are a box"):
            read(0)


def test_images_that_are_missing(tmp_path):
    _roboflow(tmp_path, f"train: list.txt\n{NAMES}")
    write_texts(tmp_path, {"list.txt": "train/images/nowhere.jpg\ntrain/images/a.jpg\n"})
    images = _open(tmp_path)
    assert objects_of(images[0]) == OBJECTS
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg: there is no such file"):
        images[1]
    with pytest.raises(IndexError):
        images[2]


@pytest.mark.parametrize("folders", [("training", "validation"), ("Train", "Validation"), ("train", "valid")])
@pytest.mark.parametrize("layout", ["{}/images {}/labels", "images/{} labels/{}"])
def test_a_folder_tells_its_format(tmp_path, folders, layout):
    """Roboflow's and others; Mapillary Vistas and the formats of PNG files have folders of these names, too."""
    for folder in folders:
        images, labels = layout.format(folder, folder).split()
        write_picture(tmp_path / images / "a.jpg", (8, 10))
        write_texts(tmp_path, {f"{labels}/a.txt": CAN})
    assert guess_format(tmp_path) == "yolo_segmentation"
    write_texts(tmp_path, {"classes.txt": "can\n"})
    for split in ("train", "val"):
        assert objects_of(open_data_set(tmp_path, split=split)[0]) == OBJECTS[1:]


def test_folders_anywhere(tmp_path):
    write_picture(tmp_path / "photos/a.jpg", (8, 10))
    write_texts(tmp_path, {"texts/a.txt": CAN, "data.yaml": f"train: nowhere\n{NAMES}"})
    images = open_data_set(tmp_path, "yolo_segmentation", images="photos", annotations="texts")
    assert objects_of(images[0]) == OBJECTS[1:]
    with pytest.raises(ValueError, match=r"say where the rest lies, too: data\.annotations"):
        open_data_set(tmp_path, "yolo_segmentation", images="photos")
