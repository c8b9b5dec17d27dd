# SPDX-License-Identifier: Apache-2.0
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unisegment.data.image_folder import ImageFolder


def write_images(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 7, 3), len(name), np.uint8)).save(folder / name)


def ids(images):
    return [images[index].image_id for index in range(len(images))]


def test_all_images_are_found_in_the_order_of_their_names(tmp_path):
    write_images(tmp_path, "b.png", "a/z.JPG", "a/c.webp")
    (tmp_path / "notes.txt").write_text("no image")
    images = ImageFolder(tmp_path)
    assert images.names == ["a/c.webp", "a/z.JPG", "b.png"]
    assert ids(images) == [1, 2, 3]
    sample = images[2]
    assert sample.image.shape == (5, 7, 3)
    assert sample.size == (5, 7)
    assert not hasattr(sample, "target")
    assert sample.file_name == str(tmp_path / "b.png")


def test_names_that_are_numbers_are_ids(tmp_path):
    write_images(tmp_path, "000000000139.png", "000000000007.png")
    assert ids(ImageFolder(tmp_path)) == [7, 139]
    write_images(tmp_path, "0007.png")
    assert ids(ImageFolder(tmp_path)) == [1, 2, 3]


def test_a_list_says_which_images_and_their_ids(tmp_path):
    write_images(tmp_path / "images", "a.png", "b.png", "c.png")
    entries = [
        {"id": 31, "file_name": "c.png", "height": 5, "width": 7},
        {"id": 5, "file_name": "a.png", "height": 5, "width": 8},
    ]
    (tmp_path / "list.json").write_text(json.dumps({"images": entries}))
    images = ImageFolder(tmp_path / "images", tmp_path / "list.json")
    assert images.names == ["c.png", "a.png"]
    assert images[0].image_id == 31
    with pytest.raises(ValueError, match=r"a\.png is 5x7 .* says 5x8"):
        images[1]
    (tmp_path / "list.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(ValueError, match=r"images\[0\]: file_name is missing\. It must have `images`"):
        ImageFolder(tmp_path / "images", tmp_path / "list.json")


def test_what_cannot_be_used_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no images"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize(
    "name", ["{root}/a.png", "../images/a.png", "C:\\a.png", "a\0.png", "\udcff.png", "", 3, None, ["a"]]
)
def test_names_in_a_list_are_below_the_folder(tmp_path, name):
    write_images(tmp_path / "images", "a.png")
    name = name.format(root=tmp_path / "images") if isinstance(name, str) else name
    entries = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": name}]
    (tmp_path / "list.json").write_text(json.dumps({"images": entries}))
    with pytest.raises(
        ValueError, match=r"list\.json.*images\[1\]: (.* is no name of a file in a folder: it|file_name must be a text)"
    ):
        ImageFolder(tmp_path / "images", tmp_path / "list.json")


def test_hidden_files_are_no_images_and_what_phones_and_browsers_save_is(tmp_path):
    write_images(tmp_path, "a.gif", "a.png", ".hidden.png", ".cache/b.png")
    for name in ("._a.png", "c.HEIC", "d.avif"):
        (tmp_path / name).write_bytes(b"no image")
    assert ImageFolder(tmp_path).names == ["a.gif", "a.png", "c.HEIC", "d.avif"]


def test_results_of_earlier_runs_are_no_images(tmp_path):
    write_images(tmp_path, "a.png", "predictions/a.png", "trips/predictions/more/b.png", "parts/c.png")
    for folder in ("predictions", "trips/predictions"):
        (tmp_path / folder / "parts").mkdir()
        (tmp_path / folder / "parts/settings.json").touch()
    images = ImageFolder(tmp_path)
    images.leave_out(tmp_path.parent / "elsewhere")
    assert images.names == ["a.png", "parts/c.png"]
    results = ImageFolder(tmp_path / "predictions")  # unless somebody names them
    results.leave_out(tmp_path.parent / "elsewhere")
    assert results.names == ["a.png"]
    with pytest.raises(ValueError, match="limit must be 1 or more, got 0"):
        images.first(0)


def test_a_folder_that_may_not_be_looked_into_is_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    write_images(tmp_path, "a.png")
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="closed"):
        ImageFolder(tmp_path)


def test_results_are_no_images(tmp_path):
    root = tmp_path / "images"
    write_images(root, "2.png")
    write_images(root / "results" / "labels", "2.png")
    write_images(root / "results-of-mine", "3.png")
    (tmp_path / "link").symlink_to(root)
    for output in (root / "results", tmp_path / "link" / "results"):
        images = ImageFolder(root)
        assert len(images) == 3
        images.leave_out(output)
        assert images.names == ["2.png", "results-of-mine/3.png"]
        assert [image.image_id for image in images] == [2, 3]
    images.leave_out(tmp_path / "elsewhere")
    assert len(images) == 2
    with pytest.raises(ValueError, match="is the folder of the images itself: choose another"):
        images.leave_out(tmp_path / "link")
    (tmp_path / "list.json").write_text('{"images": [{"id": 1, "file_name": "results/labels/2.png"}]}')
    images = ImageFolder(root, tmp_path / "list.json")
    images.leave_out(root / "results")
    assert len(images) == 1
