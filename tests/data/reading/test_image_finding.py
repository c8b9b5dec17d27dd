# SPDX-License-Identifier: Apache-2.0
"""Names of images are understood as the tools mean them that write them, and never lead out of the folder."""

import pickle

import pytest

from unisegment.data.reading.image_finding import ImageFinder
from unisegment.data.reading.packed_columns import PackedTexts


def finder(folder, names, files):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return pickle.loads(pickle.dumps(ImageFinder(folder, PackedTexts(names))))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("a%20b.jpg", "a b.jpg"),
        ("a b.jpg", "a%20b.jpg"),
        ("100%25.jpg", "100%25.jpg"),
        ("K%C3%BChe.jpg", "Kühe.jpg"),
        ("default/x/a.jpg", "default/x/a.jpg"),
        ("x\\a.jpg", "x/a.jpg"),
        # Label Studio
        ("images/1a2b-a.jpg", "1a2b-a.jpg"),
        ("images\\1a2b-a.jpg", "1a2b-a.jpg"),
        ("..\\..\\label-studio\\media\\upload\\1\\1a2b-a.jpg", "1a2b-a.jpg"),
        ("/data/upload/1/1a2b-a%20b.jpg", "1a2b-a b.jpg"),
        ("/data/local-files/?d=photos/a.jpg", "a.jpg"),
        ("/data/local-files/?d=photos%5Ca.jpg", "a.jpg"),
        ("http://localhost:8080/data/local-files/?d=a.jpg", "a.jpg"),
        ("https://example.com/photos/a.jpg?token=x/y.jpg", "a.jpg"),
        ("s3://bucket/photos/a.jpg", "a.jpg"),
        # FiftyOne
        ("/home/me/data/a.jpg", "a.jpg"),
        ("C:\\data\\a.jpg", "deep/in/it/a.jpg"),
    ],
)
def test_names_of_tools_are_understood(tmp_path, name, file):
    images = finder(tmp_path, ["other.png", name], [file, "other.png", "b/c.jpg"])
    assert images.find(name) == tmp_path / file
    assert images.find("other.png") == tmp_path / "other.png"


def test_what_a_name_says_comes_before_its_last_part(tmp_path):
    images = finder(tmp_path, ["x/a.jpg", "a.jpg"], ["x/a.jpg", "a.jpg"])
    assert images.find("x/a.jpg") == tmp_path / "x/a.jpg"
    assert images.find("a.jpg") == tmp_path / "a.jpg"


def test_the_last_part_is_not_enough_where_it_may_mean_another(tmp_path):
    images = finder(tmp_path, ["1/a.jpg", "2/a.jpg", "/data/b.jpg"], ["1/a.jpg", "x/b.jpg", "y/b.jpg"])
    assert images.find("1/a.jpg") == tmp_path / "1/a.jpg"
    # The one that there is, is that of another name.
    assert images.find("2/a.jpg") == tmp_path / "2/a.jpg"
    # Which of the two?
    assert images.find("/data/b.jpg") == tmp_path / "b.jpg"


@pytest.mark.parametrize("form", ["../{}", "{root}/{}", "x/../../{}", "..\\{}", "%2e%2e/{}"])
def test_no_name_leads_out_of_the_folder(tmp_path, form):
    (tmp_path / "secret.jpg").touch()
    name = form.replace("{root}", str(tmp_path)).format("secret.jpg")
    images = finder(tmp_path / "images", [name], ["a.jpg", "x/a.jpg"])
    found = images.find(name)
    assert found.resolve().is_relative_to(tmp_path / "images")
    assert not found.exists()


def test_missing_images_and_folders_are_where_they_should_be(tmp_path):
    images = ImageFinder(tmp_path / "none", PackedTexts(["x/a.jpg"]))
    assert images.find("x/a.jpg") == tmp_path / "none/x/a.jpg"
    assert list(images.unlisted()) == []


def test_names_that_no_file_can_have(tmp_path):
    for name in ("a" * 1000, "a%00b.jpg", "", "."):
        assert finder(tmp_path, [name], ["c.jpg"]).find(name).name != "c.jpg"


def test_images_that_no_name_means_are_listed(tmp_path):
    images = finder(tmp_path, ["images\\a.jpg", "b.png"], ["a.jpg", "b.png", "c/d.JPG", "notes.txt", "e.webp"])
    assert list(images.unlisted()) == [tmp_path / "c/d.JPG", tmp_path / "e.webp"]


def test_a_folder_is_looked_into_only_where_a_name_is_no_file(tmp_path, monkeypatch):
    images = finder(tmp_path, ["a.jpg"], ["a.jpg"])
    monkeypatch.setattr(images, "_images_there", pytest.fail)
    assert images.find("a.jpg") == tmp_path / "a.jpg"
