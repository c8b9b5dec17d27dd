# SPDX-License-Identifier: Apache-2.0
"""Images keep their bytes and their names, and none takes the place of another."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unisegment.data.reading.image_reading import ImageReading, read_image
from unisegment.data.writing.image_files import common_folder, stems_of, write_image
from unisegment.files import WriteError
from unisegment.structures import Sample


def paths(*names):
    return [Path("/data") / name for name in names]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (paths("a.jpg", "b/c.png"), ["a", "c"]),
        (paths("x/a.jpg", "y/a.jpg", "y/b.jpg"), ["x_a", "y_a", "y_b"]),
        (paths("a.jpg", "a.png", "A.jpg", "a_2.jpg"), ["a", "a_2", "A_3", "a_2_2"]),
        (paths("x/a_b.jpg", "x_a/b.jpg", "c/b.jpg"), ["x_a_b", "x_a_b_2", "c_b"]),
        ([None, *paths("a.jpg"), None], ["000000000", "a", "000000002"]),
        ([*paths("000000001.jpg"), None], ["000000001", "000000001_2"]),
    ],
)
def test_names_differ_in_every_folder(files, expected):
    assert stems_of(files) == expected


def test_the_common_folder_is_the_innermost_one():
    assert common_folder(paths("a/b/c.jpg", "a/d.jpg")) == Path("/data/a")
    assert common_folder([Path("a.jpg")]) == Path.cwd()


def photo(file, orientation=6):
    """Write an image whose EXIF data turn it, and return it as it was read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(2).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, exif=exif)
    return file


def write(file, tmp_path, exif="upright", mode="copy", source=True):
    reading = ImageReading(exif)
    sample = Sample(read_image(file, reading=reading), 1, str(file), target=None)
    return write_image(sample, file if source else None, reading, tmp_path / "out/img", mode), sample


def test_files_are_copied_byte_by_byte(tmp_path):
    file = photo(tmp_path / "a.JPG")
    written, sample = write(file, tmp_path)
    assert written == tmp_path / "out/img.JPG"
    assert written.read_bytes() == file.read_bytes()
    # Whoever reads it upright sees what was annotated.
    np.testing.assert_array_equal(read_image(written), sample.image)
    assert sample.image.shape == (9, 5, 3)


def test_an_image_that_was_annotated_as_it_is_stored_is_not_turned(tmp_path):
    for orientation, name in ((6, "img.png"), (1, "img.jpg")):
        written, sample = write(photo(tmp_path / f"{orientation}.jpg", orientation), tmp_path, exif="stored")
        assert written.name == name
        np.testing.assert_array_equal(read_image(written), sample.image)
        assert sample.image.shape == (5, 9, 3)


def test_images_without_a_file_or_of_another_kind_become_png(tmp_path):
    file = photo(tmp_path / "a.gif", 1)
    for source in (True, False):
        written, sample = write(file, tmp_path, source=source)
        assert written.name == "img.png"
        np.testing.assert_array_equal(read_image(written), sample.image)


@pytest.mark.parametrize(("kind", "ending"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".png")])
def test_content_without_a_file_is_kept_with_the_ending_of_its_kind(tmp_path, kind, ending):
    stored = BytesIO()
    Image.fromarray(np.full((5, 9, 3), 7, dtype=np.uint8)).save(stored, kind)
    sample = Sample(np.full((5, 9, 3), 7, dtype=np.uint8), 1, "row", target=None)
    written = write_image(sample, stored.getvalue(), ImageReading(), tmp_path / "img", "link")
    assert written.name == f"img{ending}"
    assert (written.read_bytes() == stored.getvalue()) == (kind != "GIF")


def test_links_share_the_file(tmp_path, monkeypatch):
    file = photo(tmp_path / "a.jpg")
    for _ in range(2):
        written, _ = write(file, tmp_path, mode="link")
        assert os.path.samefile(written, file)
        assert not written.is_symlink()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["img.jpg"]

    def refuse(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    written, _ = write(file, tmp_path, mode="link")
    assert written.is_symlink()
    assert written.resolve() == file


def test_a_full_disk_is_said_and_nothing_half_is_left(tmp_path, monkeypatch):
    file = photo(tmp_path / "a.jpg")

    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(WriteError, match=r"img\.jpg could not be written: No space left.* Make room there"):
        write(file, tmp_path)
    assert not (tmp_path / "out").exists()
