# SPDX-License-Identifier: Apache-2.0
"""Files that cannot be used are told by their kind, and whoever reads them says the same as whoever checks them."""

import numpy as np
import pytest
from PIL import Image

from unisegment.checking.image_files import decode, look_at
from unisegment.data.annotated_images import check_size, read_listed_image
from unisegment.data.problems import DataError
from unisegment.data.reading.image_reading import ImageReading


def refused(file):
    with pytest.raises(DataError) as error:
        read_listed_image(file, ImageReading())
    return error.value.problem


def sound(file, **settings):
    noise = np.random.default_rng(0).integers(0, 256, (53, 37, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, **settings)
    return file.read_bytes()


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_every_way_to_be_broken_has_a_kind(tmp_path, ending):
    file = tmp_path / f"a.{ending}"
    content = sound(file)
    made = {
        "truncated-image": content[: len(content) // 2],
        "not-an-image": b"<html>not found",
        "empty-file": b"",
    }
    for kind, damaged in made.items():
        file.write_bytes(damaged)
        problem = refused(file)
        assert (problem.kind, problem.file) == (kind, str(file))
        facts, found = look_at(file, "missing-image")
        assert problem in (found if facts is None else [decode(file)])
    assert problem.detail == "it is empty: 0 bytes."
    file.unlink()
    assert refused(file) == look_at(file, "missing-image")[1][0]
    assert str(refused(file)) == f"{file}: there is no such file, but the annotations name it."
    file.mkdir()
    assert refused(file).kind == "not-a-file"


def test_other_forms_of_absence(tmp_path):
    (tmp_path / "a.JPG").touch()
    (tmp_path / "link.jpg").symlink_to("nowhere")
    assert refused(tmp_path / "b.jpg").kind == "missing-image"
    assert "a link to nowhere, which does not exist" in refused(tmp_path / "link.jpg").detail
    assert refused(tmp_path / ("a" * 300 + ".jpg")).kind == "unreadable-file"


def test_gigantic_images_are_refused(tmp_path, monkeypatch):
    sound(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    assert refused(tmp_path / "a.png").kind == "too-large-image"


@pytest.mark.parametrize(("orientation", "kind"), [(6, "exif-rotated"), (3, "wrong-size"), (None, "wrong-size")])
def test_other_sizes_may_come_from_exif_data(tmp_path, orientation, kind):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    sound(tmp_path / "a.jpg", exif=exif)
    check_size(tmp_path / "a.jpg", (5, 3), (5, 3), tmp_path / "a.json")
    with pytest.raises(DataError) as error:
        check_size(tmp_path / "a.jpg", (37, 53), (53, 37), tmp_path / "a.json")
    assert error.value.problem.kind == kind
    assert f"a.jpg: it is 37x53 (height x width), but {tmp_path}/a.json says 53x37" in str(error.value)
