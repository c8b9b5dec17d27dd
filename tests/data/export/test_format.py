# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from PIL import Image

from tests.data.export.predictions import random_predictions
from unisegment.data.categories import CITYSCAPES
from unisegment.data.export import EXPORT_FORMATS, open_export
from unisegment.data.export.format import ExportedImage, save_png, stream_json
from unisegment.structures import Category

CATEGORIES = [Category(number, name, thing, (0, 0, 0)) for number, (name, thing) in enumerate(CITYSCAPES.items())]


@pytest.mark.parametrize("content", [{"a": [], "b": [1, {"c": "ä"}]}, {"a": [2]}, [], [[1], "x"]])
def test_json_is_streamed(tmp_path, content):
    stream_json(tmp_path / "new" / "file.json", content)
    assert json.loads((tmp_path / "new" / "file.json").read_text()) == content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.json"]


def test_a_file_that_breaks_off_is_not_there(tmp_path):
    def entries():
        yield 1
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"file\.json could not be written: No space left on device\. .* Make room"):
        stream_json(tmp_path / "file.json", entries())
    assert list(tmp_path.iterdir()) == []


def test_pixels_come_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    save_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), pixels)


def test_an_image_has_its_name_and_size_in_files():
    image = ExportedImage(3, "folder/a.b.jpg", (5, 7))
    assert image.entry() == {"id": 3, "file_name": "folder/a.b.jpg", "height": 5, "width": 7}


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="no export format 'coco', only coco_panoptic, coco_instance, coco_test_dev"):
        open_export("coco", tmp_path, [])


@pytest.mark.parametrize(
    "name", ["{outside}/photo.png", "../photo.png", "sub/../../photo.png", "link/photo.png", "a\\b.png"]
)
@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_nothing_is_written_outside_of_the_folder(tmp_path, to, name):
    outside, output = tmp_path / "outside", tmp_path / "output"
    outside.mkdir()
    output.mkdir()
    (outside / "photo.png").write_bytes(b"mine")
    export = open_export(to, output, CATEGORIES)
    for folder in ("panoptic_unisegment_results", "panoptic_test-dev2017_unisegment_results", "labels"):
        (output / folder).mkdir()
        (output / folder / "link").symlink_to(outside)
    name = name.format(outside=outside)
    image = ExportedImage(3, name, (5, 7))
    found = random_predictions(0, (5, 7), range(11, 19), len(CATEGORIES))
    if to == "coco_instance" or (to == "cityscapes" and name == "link/photo.png"):
        export.write(image, found)  # names nothing after the folders of an image
    else:
        with pytest.raises(ValueError, match=r"no name of a file|symbolic link"):
            export.write(image, found)
        assert not any(path.is_file() and not path.is_symlink() for path in output.rglob("*"))
    assert [path.name for path in outside.iterdir()] == ["photo.png"]
    assert (outside / "photo.png").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output", "outside"]
    if not name.startswith("link"):
        with pytest.raises(ValueError, match="no name of a file"):
            export.check_names(["a.png", name])


def test_no_image_has_the_files_of_another(tmp_path):
    for to, names in (
        ("label_png", ["a/b.png", "a/b.jpg"]),
        ("cityscapes", ["a/x_leftImg8bit.png", "b/x_leftImg8bit.png"]),
    ):
        with pytest.raises(ValueError, match="Two images are named"):
            open_export(to, tmp_path, CATEGORIES).check_names(names)
    for name in ("\udcff.png", "a\\b.png"):
        with pytest.raises(ValueError, match=r"is no name of a file in a folder: it .* Rename it\."):
            open_export("label_png", tmp_path, CATEGORIES).check_names([name])
    open_export("label_png", tmp_path, CATEGORIES).check_names(["a/x.png", "b/x.png", "x.png"])


@pytest.mark.parametrize("run_name", ["", "../../x", "/tmp/x", "a/b", "a\\b", "a\0", "\udcff"])
def test_the_name_of_the_algorithm_is_part_of_a_name(tmp_path, run_name):
    with pytest.raises(ValueError, match="name of the algorithm is part of names of files"):
        open_export("coco_panoptic", tmp_path, CATEGORIES, run_name)


def test_an_archive_takes_nothing_from_elsewhere(tmp_path):
    export = open_export("coco_test_dev", tmp_path / "output", CATEGORIES)
    (tmp_path / "secret.png").write_bytes(b"mine")
    part = {"name": "../../secret.png", "image": {}, "panoptic": {"file_name": "../../secret.png"}, "detections": []}
    with pytest.raises(ValueError, match=r"has '\.\.' in it"):
        export.finish(lambda: iter([part]))
