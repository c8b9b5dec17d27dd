# SPDX-License-Identifier: Apache-2.0
"""PNG files of labels: channels, ids and signs of smooth resizing; the damages show each kind."""

import numpy as np
import pytest
from PIL import Image

from tests.checking.data_sets import id_map, write_map
from unisegment.checking.image_files import look_at
from unisegment.checking.label_map_files import (
    check_label_map,
    check_numbers,
    check_panoptic_map,
    is_blended,
    largest_number,
)
from unisegment.ops.masks import ids_to_rgb


def facts_of(file):
    return look_at(file, "missing-label-map")[0]


@pytest.mark.parametrize(("mode", "largest"), [("1", 1), ("L", 255), ("P", 255), ("I;16", 65535), ("RGB", 2**24 - 1)])
def test_largest_numbers(mode, largest):
    assert largest_number(mode) == largest


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", []), ("L", []), ("P", []), ("I;16", []), ("RGB", []), ("RGBA", ["label-map-channels"])],
)
def test_channels(tmp_path, mode, kind):
    Image.new(mode, (7, 5)).save(tmp_path / "a.png")
    assert [finding.kind for finding in check_label_map(tmp_path / "a.png", facts_of(tmp_path / "a.png"))] == kind


@pytest.mark.parametrize(
    ("listed", "hidden", "kinds"),
    [
        ([300, 70_000], False, []),
        ([300], False, ["unlisted-segment"]),
        ([300, 70_000, 5], False, ["undrawn-segment"]),
        ([300, 70_000, 5], True, []),
        ([300, 5], False, ["unlisted-segment", "undrawn-segment"]),
    ],
)
def test_segment_ids_are_compared(tmp_path, listed, hidden, kinds):
    write_map(tmp_path / "a.png", ids_to_rgb(np.array([[0, 300, 70_000]])))
    findings = check_panoptic_map(tmp_path / "a.png", facts_of(tmp_path / "a.png"), listed, hidden)
    assert [finding.kind for finding in findings] == kinds


def test_a_panoptic_file_of_one_channel_holds_no_ids(tmp_path):
    write_map(tmp_path / "a.png", np.array([[0, 7, 9]], np.uint8))
    facts = facts_of(tmp_path / "a.png")
    for listed, kind in (([7, 9], "label-map-channels"), ([7, 70_000], "id-too-large")):
        (finding,) = check_panoptic_map(tmp_path / "a.png", facts, listed, False)
        assert finding.kind == kind
    assert "[70000]" in finding.detail
    # All void: nothing is lost.
    write_map(tmp_path / "a.png", np.zeros((5, 7), np.uint8))
    assert check_panoptic_map(tmp_path / "a.png", facts, [], False) == []


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
