# SPDX-License-Identifier: Apache-2.0
"""LabelMe's format: shapes become the objects worked out by hand, wherever images and annotations lie.

Source: https://github.com/wkentaro/labelme, `labelme/_label_file.py` and `examples/instance_segmentation`.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.data.exports import in_base64, labelme_file, objects_of, write_picture, write_texts
from unisegment.data.formats import labelme, open_data_set
from unisegment.data.problems import CollectedProblems, DataError, MissingDataError, Problems

(LABELME,) = labelme.FORMATS
# Of an image of 20x30 (height x width).
SIZE = (20, 30)
CAT = {"label": "cat", "points": [[1, 2], [6, 2], [6, 6], [1, 6]], "shape_type": "polygon"}
DOG = {"label": "dog", "points": [[20.0, 18.0], [10.0, 8.0]], "shape_type": "rectangle"}
OBJECTS = [(0, (1, 2, 6, 6), 20), (1, (10, 8, 20, 18), 100)]


def _write(root, *shapes, name="a", **options):
    write_picture(root / f"{name}.jpg", SIZE)
    write_texts(root, {f"{name}.json": labelme_file(*shapes, path=f"{name}.jpg", **options)})


def _open(root, split="train", problems=None, **options):
    found = LABELME.find(root, split)
    assert found is not None
    return LABELME.open(found, problems=problems or Problems(), **options)


def _told(problems):
    return {found["kind"]: [item["detail"] for item in found["listed"]] for found in problems.as_dicts()}


def test_a_folder_of_images_and_files(tmp_path):
    """All of it is "train"; labels are the names sorted."""
    _write(tmp_path, DOG, CAT)
    _write(tmp_path, name="b")
    assert LABELME.fits(tmp_path, ["train", "val"])
    assert LABELME.find(tmp_path, "val") is None
    first, second = images = pickle.loads(pickle.dumps(_open(tmp_path)))
    assert (images.id2label, images.stuff_label_ids) == ({0: "cat", 1: "dog"}, [])
    assert objects_of(first) == OBJECTS[::-1]
    assert (first.image_id, first.file_name) == ("a", str(tmp_path / "a.jpg"))
    assert (len(second.target), second.target.size) == (0, SIZE)
    assert [images.labels_in(place) for place in (0, 1, -2)] == [{0, 1}, set(), {0, 1}]
    files = images.files(0)
    assert (files.image, files.source) == (tmp_path / "a.jpg", tmp_path / "a.json")
    assert (files.size, files.num_annotations) == (SIZE, 2)
    with pytest.raises(IndexError):
        images[2]


@pytest.mark.parametrize(
    ("annotations", "images", "path"),
    [
        ("{}", "{}", "a.jpg"),
        ("{}", "{}", "C:\\photos\\a.png"),
        ("{}", "{}", "a.json"),
        ("{}/annotations", "{}/images", "..\\images\\a.jpg"),
        ("annotations/{}", "images/{}", "../../images/{}/a.jpg"),
        ("annotations/{}", "images/{}", "a.jpg"),
        ("labels/{}", "images/{}", "/elsewhere/renamed.jpg"),
        ("annotations/{}", "images", "../../../../a.JPG"),
    ],
)
def test_splits(tmp_path, monkeypatch, annotations, images, path):
    """Images are where the files say, or where they lie usually. Labels are those of all splits."""
    for split, shapes in (("train", [DOG]), ("valid", [CAT, {**CAT, "label": "ant"}])):
        write_picture(tmp_path / images.format(split) / "a.jpg", SIZE)
        write_texts(tmp_path / annotations.format(split), {"a.json": labelme_file(*shapes, path=path.format(split))})
    assert LABELME.fits(tmp_path, ["train", "val"])
    (sample,) = training = _open(tmp_path)
    monkeypatch.chdir(tmp_path)
    held_out = _open(Path(), "val")
    assert training.id2label == held_out.id2label == {0: "ant", 1: "cat", 2: "dog"}
    assert objects_of(sample) == [(2, *OBJECTS[1][1:])]
    assert [item[0] for item in objects_of(held_out[0])] == [1, 0]


@pytest.mark.parametrize(("annotations", "images"), [("annotations", "images"), ("labels", "photos"), (".", "photos")])
def test_folders_without_splits(tmp_path, annotations, images):
    write_picture(tmp_path / images / "a.jpg", SIZE)
    write_texts(tmp_path / annotations, {"a.json": labelme_file(CAT)})
    places = {"images": "photos"} if images == "photos" else {}
    (sample,) = open_data_set(tmp_path, **places)
    assert objects_of(sample) == OBJECTS[:1]
    (sample,) = open_data_set(tmp_path, "labelme", annotations=f"{annotations}/a.json", **places)
    assert objects_of(sample) == OBJECTS[:1]


def test_labels_that_are_listed_keep_their_order(tmp_path):
    _write(tmp_path, DOG, CAT)
    write_texts(tmp_path, {"labels.txt": "\ufeff__ignore__\r\n_background_\r\ndog\r\n\r\ncat\r\nant"})
    assert _open(tmp_path).id2label == {0: "dog", 1: "cat", 2: "ant"}
    assert [item[0] for item in objects_of(_open(tmp_path)[0])] == [0, 1]
    given = _open(tmp_path, categories=[{"id": 7, "name": "cat", "isthing": 0}, {"id": 9, "name": "dog"}])
    assert (given.label_of, given.stuff_label_ids) == ({7: 0, 9: 1}, [0])
    void = _open(tmp_path, void_ids=[0])
    assert (void.id2label, objects_of(void[0])) == ({0: "cat", 1: "ant"}, OBJECTS[:1])
    assert void.files(0).num_annotations == 1
    write_texts(tmp_path, {"labels.txt": "dog\n"})
    with pytest.raises(DataError, match=r"a\.json: there is no label 'cat', only \['dog'\]\. Correct it, or list it\."):
        _open(tmp_path)


def test_an_image_that_is_in_its_file(tmp_path):
    pixels = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(*SIZE, 3)
    write_texts(tmp_path, {"a.json": labelme_file(CAT, path="gone.png", data=in_base64(pixels))})
    (sample,) = images = _open(tmp_path)
    np.testing.assert_array_equal(sample.image, pixels)
    assert (objects_of(sample), sample.file_name) == (OBJECTS[:1], str(tmp_path / "a.json"))
    assert images.files(0) is None
    assert images.stored_image(0).size == (30, 20)
    # The file goes before what is in it.
    write_picture(tmp_path / "gone.png", SIZE, 7)
    images = _open(tmp_path)
    assert (images[0].image == 7).all()
    assert images.stored_image(0) is None


def test_shapes_are_those_of_the_upright_image(tmp_path):
    """LabelMe turns an image as its EXIF data say, and writes the size that it has then."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    _write(tmp_path, CAT)
    write_picture(tmp_path / "a.jpg", SIZE[::-1], exif=exif)
    assert objects_of(_open(tmp_path)[0]) == OBJECTS[:1]


def test_sizes_may_be_unknown_but_not_wrong(tmp_path):
    content = json.loads(labelme_file(CAT))
    _write(tmp_path, CAT)
    del content["imageHeight"]
    write_texts(tmp_path, {"a.json": json.dumps(content)})
    assert objects_of(_open(tmp_path)[0]) == OBJECTS[:1]
    write_texts(tmp_path, {"a.json": labelme_file(CAT, size=(21, 30))})
    with pytest.raises(ValueError, match=r"a\.jpg: it is 20x30 \(height x width\), but .*a\.json says 21x30"):
        _open(tmp_path)[0]


@pytest.mark.parametrize("content", ["", "[]", labelme_file({"label": 3, "points": [], "shape_type": "polygon"})])
def test_files_that_are_wrong_are_left_out(tmp_path, content):
    _write(tmp_path, CAT)
    write_texts(tmp_path, {"b.json": content})
    with pytest.raises(DataError, match=r"b\.json: it is not") as caught:
        _open(tmp_path)
    problems = CollectedProblems()
    (sample,) = _open(tmp_path, problems=problems)
    assert objects_of(sample) == OBJECTS[:1]
    assert problems.errors() == [caught.value.problem]


def test_what_is_doubtful_is_told(tmp_path):
    shapes = [
        {**CAT, "points": [[-3, 2], [2, 2], [2, 25], [-3, 25]]},
        {**DOG, "shape_type": "circle", "points": [[30, 0], [30, 4]]},
        {**CAT, "points": [[0, 0], [30, 0], [30, 20], [0, 20]]},
        {"label": "lane", "points": [[1, 1], [9, 9]], "shape_type": "linestrip"},
        {"label": "two", "points": [[1, 1], [9, 9]], "shape_type": "polygon"},
    ]
    _write(tmp_path, *shapes)
    _write(tmp_path, name="b")
    problems = CollectedProblems()
    images = _open(tmp_path, problems=problems)
    assert images.id2label == {0: "cat", 1: "dog"}
    assert objects_of(images[0])[0] == (0, (0, 2, 2, 20), 36)
    assert _told(problems) == {
        "outside-image": [
            "shapes[0] ('cat'): it reaches out of its image; that is cut off.",
            "shapes[1] ('dog'): it reaches out of its image; that is cut off.",
        ],
        "empty-annotation": ["shapes[3] ('lane'): a linestrip has no area; it is left out."],
        "degenerate-polygon": ["shapes[4] ('two'): a polygon has fewer than three points; it is left out."],
        "unannotated-image": ["it has no shape."],
    }
    image = str(tmp_path / "a.jpg")
    assert [(item.image, item.box) for item in problems.listed["outside-image"]] == [
        (image, (-3, 2, 2, 25)), (image, (26, -4, 34, 4)),
    ]  # fmt: skip
    assert problems.listed["unannotated-image"][0].image == str(tmp_path / "b.jpg")


def test_shapes_that_cannot_be_drawn_are_named(tmp_path):
    _write(tmp_path, DOG, {**CAT, "points": [[0, 0], [61, 0], [5, 5]]})
    with pytest.raises(DataError, match=r"a\.json: shapes\[1\] \('cat'\): a polygon has x = 61\.0, too far outside"):
        _open(tmp_path)[0]


def test_images_that_are_missing(tmp_path):
    """One outside of the folder is not read, whatever the file says."""
    root = tmp_path / "root"
    _write(root, CAT)
    write_picture(tmp_path / "secret.jpg", SIZE)
    write_texts(root, {"b.json": labelme_file(CAT, path="../secret.jpg"), "c.json": labelme_file(data="bm90")})
    with pytest.raises(
        MissingDataError, match=r"b\.json: its image '\.\./secret\.jpg' is not there.*data\.images=FOLDER"
    ):
        _open(root)
    problems = CollectedProblems()
    images = _open(root, problems=problems)
    assert len(images) == 2
    assert _told(problems).keys() == {"missing-image", "unannotated-image"}
    (root / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.jpg: there is no such file"):
        images[0]
    with pytest.raises(DataError, match=r"c\.json: imageData: it cannot be read as an image"):
        LABELME.open(LABELME.find(root, "train"), problems=CollectedProblems(), categories=["cat"])[-1]


def test_folders_without_labels(tmp_path):
    _write(tmp_path)
    with pytest.raises(DataError, match="nothing names labels"):
        _open(tmp_path)
    (tmp_path / "a.json").unlink()
    with pytest.raises(DataError, match="there are no JSON files"):
        LABELME.open(labelme.Found(tmp_path, "train", {"annotations": tmp_path}), problems=Problems())


@pytest.mark.parametrize("name", ["instances.json", "annotations/instances_train.json", "train/_annotations.coco.json"])
def test_other_json_files_are_of_other_formats(tmp_path, name):
    write_texts(tmp_path, {name: json.dumps({"images": [], "categories": [], "annotations": []})})
    assert not LABELME.fits(tmp_path, ["train", "val"])
