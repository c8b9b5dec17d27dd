# SPDX-License-Identifier: Apache-2.0
"""Whatever the bytes are, they are an image or a ValueError that names them."""

from io import BytesIO

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from unisegment.ops.image_opening import has_more_frames, is_cut, open_image, require_image


def test_images_are_loaded_as_they_are_stored(tmp_path):
    pixels = np.arange(35, dtype=np.uint16).reshape(5, 7) * 300
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert not is_cut(image)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a\0\0\0\0", b"II*\0\x08\0\0\0\xff\xff"])
def test_other_bytes_are_refused_by_name(content):
    with pytest.raises(ValueError, match="column 'x' cannot be read as an image: "):
        open_image(BytesIO(content), "column 'x'")


def test_an_image_that_claims_more_pixels_than_memory_is_refused(tmp_path, monkeypatch):
    Image.new("L", (50, 50)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image: .*decompression bomb"):
        open_image(tmp_path / "a.png")


def test_no_program_runs_because_an_image_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: pytest.fail("Ghostscript would run"))
    Image.new("RGB", (5, 7)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read as an image: it is a program in PostScript"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"%PDF-1.7", "it is PDF, which is not read. Convert it"),
        (b'<?xml version="1.0"?>\n<svg/>', "it is SVG"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>", "it is a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "it is HEIC"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "it is a video"),
        (b"hello", "in no format that Pillow reads"),
    ],
)
def test_what_is_no_image_is_named(content, said, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    for file in (tmp_path / "a.jpg", BytesIO(content)):
        with pytest.raises(ValueError, match=said) as caught:
            open_image(file, "a.jpg")
        assert "BytesIO" not in str(caught.value)
    with pytest.raises(ValueError, match=said):
        require_image(tmp_path / "a.jpg")


def test_how_a_file_begins_is_looked_at_alone(tmp_path):
    Image.new("RGB", (50, 70)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    require_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match="truncated"):
        open_image(tmp_path / "a.png")


def test_large_images_are_read_without_a_warning(tmp_path, monkeypatch):
    Image.new("L", (50, 50)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert open_image(tmp_path / "a.png").size == (50, 50)  # warnings are errors here


@pytest.mark.parametrize(("ending", "expected"), [("gif", True), ("webp", True), ("tif", True), ("mpo", False)])
def test_of_several_frames_the_first_is_read(tmp_path, ending, expected):
    frames = [Image.new("RGB", (5, 7), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / f"b.{ending}")
    image = open_image(tmp_path / f"a.{ending}")
    assert image.convert("RGB").getpixel((0, 0))[0] > 250
    assert has_more_frames(image) == expected
    assert not has_more_frames(open_image(tmp_path / f"b.{ending}"))
