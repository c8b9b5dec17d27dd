# SPDX-License-Identifier: Apache-2.0
"""What an image file is, and what is wrong with it, is seen without decoding it; the damages show each kind."""

import os

import numpy as np
import pytest
from PIL import Image

from tests.checking.data_sets import write_photo
from unisegment.checking.image_files import decode, look_at


def kinds(findings):
    return [finding.kind for finding in findings]


@pytest.mark.parametrize(("orientation", "upright"), [(1, (5, 7)), (3, (5, 7)), (6, (7, 5)), (8, (7, 5)), (77, (5, 7))])
def test_sizes_are_told_as_stored_and_upright(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    write_photo(tmp_path / "a.jpg", (5, 7), exif=exif)
    facts, findings = look_at(tmp_path / "a.jpg", "missing-image")
    assert (facts.format, facts.mode, facts.stored, facts.seen("upright")) == ("JPEG", "RGB", (5, 7), upright)
    assert findings == []
    assert decode(tmp_path / "a.jpg") is None


def test_equal_files_have_equal_hashes(tmp_path):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        write_photo(tmp_path / name, (5, 7), seed)
    a, b, c = (look_at(tmp_path / name, "missing-image")[0].digest for name in ("a.png", "b.png", "c.png"))
    assert a == b != c
    assert -(2**63) <= min(a, c) <= max(a, c) < 2**63


def test_a_file_that_is_missing_may_be_there_in_another_case(tmp_path):
    (tmp_path / "A.JPG").touch()
    for name, detail in (
        ("a.jpg", "there is no such file, but there is A.JPG."),
        ("b.jpg", "there is no such file, but the annotations name it."),
    ):
        facts, (finding,) = look_at(tmp_path / name, "missing-label-map")
        assert facts is None
        assert (finding.kind, finding.detail) == ("missing-label-map", detail)


def test_what_is_no_file_is_told_and_waited_for_by_nobody(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    for name in ("a.jpg", "b.jpg"):
        assert kinds(look_at(tmp_path / name, "missing-image")[1]) == ["not-a-file"]
    assert kinds(look_at(tmp_path / ("x" * 999), "missing-image")[1])[0] in ("unreadable-file", "missing-image")


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    write_photo(tmp_path / "a.jpg", (5, 7))

    def refuse(*_):
        raise PermissionError("not for you")

    monkeypatch.setattr(type(tmp_path), "open", refuse)
    assert kinds(look_at(tmp_path / "a.jpg", "missing-image")[1]) == ["unreadable-file"]


@pytest.mark.parametrize(
    ("mode", "name", "kind"),
    [
        ("RGB", "a.png", []),
        ("L", "a.png", []),
        ("P", "a.png", []),
        ("RGBA", "a.png", ["unusual-image"]),
        ("LA", "a.png", ["unusual-image"]),
        ("1", "a.png", ["unusual-image"]),
        ("I;16", "a.png", ["unusual-image"]),
        ("F", "a.tif", ["unusual-image"]),
        ("CMYK", "a.jpg", ["unusual-image"]),
        ("RGB", "a.bmp", []),
    ],
)
def test_unusual_channels_are_told(tmp_path, mode, name, kind):
    Image.new(mode, (7, 5)).save(tmp_path / name)
    assert kinds(look_at(tmp_path / name, "missing-image")[1]) == kind


def test_more_frames_and_transparent_colours_are_told(tmp_path):
    frames = [Image.fromarray(np.full((5, 7), value, np.uint8)) for value in (1, 99)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.png", transparency=1)
    for name, detail in (("a.png", "it has 2 frames"), ("b.png", "it has transparent pixels")):
        (finding,) = look_at(tmp_path / name, "missing-image")[1]
        assert finding.detail.startswith(detail)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_every_cut_is_noticed(tmp_path, name):
    file = tmp_path / name
    write_photo(file, (101, 103))
    content = file.read_bytes()
    for share in np.linspace(0, 0.97, 23):
        file.write_bytes(content[: int(share * len(content))])
        facts, findings = look_at(file, "missing-image")
        if facts is not None:
            findings = [decode(file)]
        assert kinds(findings)[0] in ("empty-file", "not-an-image", "truncated-image"), share
