# SPDX-License-Identifier: Apache-2.0
import errno
import json
import os
import re
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.https_server import https_server
from unisegment.data.image_sources import ImageFolder, ImageList, open_images, require_some

HEIGHT, WIDTH = 5, 11


def pixels(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encoded(image, **options):
    file = BytesIO()
    Image.fromarray(image).save(file, format="PNG", **options)
    return file.getvalue()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(pixels()))
    return path


def test_one_image_in_every_form_is_the_same(photo):
    image = pixels()
    forms = [
        str(photo), photo, photo.read_bytes(), BytesIO(photo.read_bytes()),
        f"data:image/png;base64,{b64encode(photo.read_bytes()).decode()}",
        bytearray(photo.read_bytes()), Image.fromarray(image), image,
        torch.from_numpy(image), torch.from_numpy(image).permute(2, 0, 1),
        torch.from_numpy(image / 255.0).permute(2, 0, 1),
    ]  # fmt: skip
    for form in forms:
        opened = open_images(form)
        assert len(opened) == 1
        assert len(opened.names[0]) < 20
        assert np.array_equal(opened[0].image, image), type(form)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 5), (3, 3), (4, 6)])
def test_of_arrays_the_last_axis_is_that_of_the_channels_and_of_tensors_the_first(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.array_equal(open_images(image)[0].image, image)
    assert np.array_equal(open_images(torch.from_numpy(image).permute(2, 0, 1))[0].image, image)
    assert np.array_equal(open_images(image[..., :1])[0].image, image[..., :1].repeat(3, axis=2))


def test_a_batch_of_tensors_is_as_many_images():
    images = torch.from_numpy(np.stack([pixels(0), pixels(1)])).permute(0, 3, 1, 2)
    opened = open_images(images)
    assert [np.array_equal(opened[index].image, pixels(index)) for index in range(2)] == [True, True]


def test_folders_patterns_and_lists(tmp_path, photo):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "other.jpg").write_bytes(encoded(pixels(1)))
    assert open_images(tmp_path).names == ["b/other.jpg", "photo.png"]
    assert isinstance(open_images(str(tmp_path)), ImageFolder)
    assert open_images(f"{tmp_path}/*.png").names == ["photo.png"]
    assert open_images(f"{tmp_path}/**/*.*").names == ["other.jpg", "photo.png"]
    assert open_images([photo, f"{tmp_path}/b"]).names == ["photo.png", "other.jpg"]


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path):
    path = tmp_path / "a[1].png"
    path.write_bytes(encoded(pixels()))
    assert open_images(str(path)).names == ["a[1].png"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(encoded(pixels()))
    assert ImageList([tmp_path / "one/a.png", tmp_path / "two/a.png"]).names == ["one/a.png", "two/a.png"]


def test_images_without_names_are_numbered_and_files_that_are_numbers_keep_theirs(tmp_path):
    assert open_images([pixels(), pixels(1)]).names == ["image_000001.png", "image_000002.png"]
    for name in ("000000000139.png", "000000000285.png"):
        (tmp_path / name).write_bytes(encoded(pixels()))
    assert [image.image_id for image in open_images(f"{tmp_path}/*.png")] == [139, 285]


def test_an_iterator_is_asked_for_an_image_only_when_it_is_needed(photo):
    asked = []

    def images():
        for image in (photo, pixels(1)):
            asked.append(image)
            yield image

    opened = open_images(images())
    assert asked == []
    first = next(opened)()
    assert len(asked) == 1
    assert np.array_equal(first.image, pixels())
    assert first.file_name == str(photo)
    assert np.array_equal(next(opened)().image, pixels(1))
    assert next(opened, None) is None


def test_first_images_alone(photo):
    opened = open_images([photo, pixels(1), pixels(2)]).first(2)
    assert (len(opened), opened.names) == (2, ["photo.png", "image_000002.png"])


def test_what_is_no_image_is_refused_in_one_line(tmp_path, photo):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "film.MP4").write_bytes(b"\0" * 64)
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:70])
    (tmp_path / "empty").mkdir()
    for source, kind, message in (
        (tmp_path / "missing.jpg", FileNotFoundError, "missing.jpg does not exist"),
        (f"{tmp_path}/*.webp", FileNotFoundError, "No file matches"),
        (tmp_path / "empty", FileNotFoundError, "has no images"),
        ("", FileNotFoundError, "A file without a name does not exist"),
    ):
        with pytest.raises(kind, match=message):
            open_images(source)
    os.mkfifo(tmp_path / "pipe.png")
    for source, message in (
        (tmp_path / "film.MP4", "is a video.*ffmpeg -i film.MP4"),
        (tmp_path / "pipe.png", "pipe.png is no file"),
        ("/dev/zero", "/dev/zero is no file"),
        ("ftp://example.org/a.jpg", "ftp://example.org/a.jpg is no address of an image"),
        ("http://[::1/a.jpg", "Invalid IPv6 URL"),
        ("data:image/png;base64,aGVsbG8=", "image_000001.png cannot be read: .* is no file, no address and no image"),
        (tmp_path / "notes.txt", "notes.txt cannot be read as an image"),
        (tmp_path / "cut.png", "cut.png cannot be read as an image"),
        (b"hello", "image_000001.png cannot be read as an image"),
        (3.5, "Expected a Pillow image"),
        (np.zeros((0, 4, 3), np.uint8), "image_000001.png cannot be read: The image is empty"),
    ):
        opened = open_images(source)
        with pytest.raises(ValueError, match=message) as caught:
            opened[0]
        assert "\n" not in str(caught.value)


def test_an_address_that_cannot_be_reached_is_a_value_error_without_its_secrets():
    opened = open_images("http://user:secret@127.0.0.1:9/photo.jpg?token=1")
    assert opened.names == ["photo.jpg"]
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9/photo\.jpg cannot be fetched") as caught:
        opened[0]
    assert "secret" not in str(caught.value)


def test_an_image_at_an_address_is_read_and_what_else_is_there_is_named(tmp_path, photo, monkeypatch):
    (tmp_path / "page.jpg").write_text("<!DOCTYPE html><html></html>")
    with https_server(tmp_path, monkeypatch) as server:
        server.redirects = {"/moved.png": "/photo.png", "/loop.png": "/loop.png"}
        for name in ("photo.png", "moved.png", "photo.png?token=secret#part"):
            opened = open_images(server.address(name))
            assert np.array_equal(opened[0].image, pixels())
            assert "secret" not in opened[0].file_name
        for name, message in (
            ("page.jpg", "page.jpg cannot be read as an image: it is a web page"),
            ("missing.png", "missing.png cannot be fetched: HTTP Error 404"),
            ("loop.png", "loop.png cannot be fetched: .*infinite loop"),
        ):
            opened = open_images(server.address(name))
            with pytest.raises(ValueError, match=message) as caught:
                opened[0]
            assert "\n" not in str(caught.value)


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
    with pytest.raises(ValueError, match=r"a\.png: it is 5x7 .* says 5x8"):
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
    write_images(tmp_path, "2.png", "predictions/3.png", "trips/predictions/more/4.png", "parts/5.png")
    for folder in ("predictions", "trips/predictions"):
        (tmp_path / folder / "parts").mkdir()
        (tmp_path / folder / "parts/settings.json").touch()
    images = ImageFolder(tmp_path)
    assert (images.names, ids(images)) == (["2.png", "parts/5.png"], [2, 5])
    assert open_images([tmp_path]).names == ["2.png", "5.png"]
    assert ImageFolder(tmp_path / "predictions").names == ["3.png"]  # unless somebody names them
    (tmp_path / "list.json").write_text('{"images": [{"id": 1, "file_name": "predictions/3.png"}]}')
    assert ImageFolder(tmp_path, tmp_path / "list.json").names == ["predictions/3.png"]
    with pytest.raises(FileNotFoundError, match="has no images, or only results of earlier runs"):
        ImageFolder(tmp_path / "trips")
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


def test_files_that_are_all_no_images_are_refused_by_how_they_begin(tmp_path):
    write_images(tmp_path, "3.png")
    for name, content in (("1.png", b"%PDF"), ("2.mp4", b""), ("4.png", (tmp_path / "3.png").read_bytes()[:60])):
        (tmp_path / name).write_bytes(content)
    one, two, whole, cut = (tmp_path / name for name in ("1.png", "2.mp4", "3.png", "4.png"))
    for taken in ([whole], [one, two, whole], [cut], [one, Image.new("RGB", (2, 3))], "https://host/a.png"):
        require_some(open_images(taken))
    require_some(ImageFolder(tmp_path))
    with pytest.raises(ValueError, match="it is PDF") as caught:
        open_images(one)[0]
    with pytest.raises(ValueError, match=f"^{re.escape(str(caught.value))}$"):
        require_some(open_images(one))
    with pytest.raises(ValueError, match=r"^None of the 2 images can be read\. .*2\.mp4 is a video"):
        require_some(open_images([two, one]))
    whole.unlink()
    cut.unlink()
    with pytest.raises(ValueError, match=r"1\.png cannot be read as an image: it is PDF"):
        require_some(ImageFolder(tmp_path))
