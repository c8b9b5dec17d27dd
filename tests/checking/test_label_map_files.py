# SPDX-License-Identifier: Apache-2.0
"""PNG files of labels: channels, ids and signs of smooth resizing; the damages show each kind."""

import numpy as np
import pytest
from PIL import Image

from tests.checking.data_sets import id_map, write_map
from unisegment.checking.image_files import look_at
from unisegment.checking.label_map_files import check_label_map, check_numbers, is_blended


def facts_of(file):
    return look_at(file, "missing-label-map")[0]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", []), ("L", []), ("P", []), ("I;16", []), ("RGB", []), ("RGBA", ["label-map-channels"])],
)
def test_channels(tmp_path, mode, kind):
    Image.new(mode, (7, 5)).save(tmp_path / "a.png")
    assert [finding.kind for finding in check_label_map(tmp_path / "a.png", facts_of(tmp_path / "a.png"))] == kind


def test_where_wrong_numbers_may_come_from(tmp_path):
    smooth = Image.fromarray(id_map((29, 37)) * 20).resize((101, 97), Image.Resampling.BILINEAR)
    colors = np.full((5, 7, 3), 128, np.uint8)
    for array, hint in ((np.asarray(smooth), "resize labels to the nearest"), (colors, "turn colours into ids")):
        write_map(tmp_path / "a.png", array)
        finding = check_numbers(tmp_path / "a.png", facts_of(tmp_path / "a.png"), "It says so.")
        assert finding.kind == "unknown-id"
        assert finding.detail.startswith("It says so. ")
        assert hint in finding.detail
    write_map(tmp_path / "a.png", id_map((29, 37)))
    assert check_numbers(tmp_path / "a.png", facts_of(tmp_path / "a.png"), "It says so.").detail == "It says so."


def test_smooth_resizing_is_told_from_nearest():
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 19, (11, 13), dtype=np.uint8) * 10)
    for method in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS):
        assert is_blended(np.asarray(coarse.resize((101, 97), method)).astype(np.int32))
    assert not is_blended(np.asarray(coarse.resize((101, 97), Image.Resampling.NEAREST)).astype(np.int32))
    assert not is_blended(id_map((29, 37)).astype(np.int32))
    assert not is_blended(np.zeros((1, 1), np.int32))
    # Thin things between two others are not enough.
    poles = np.full((97, 101), 2, np.int32)
    poles[:, 50:] = 9
    poles[30:70, 49] = 5
    assert not is_blended(poles)
