# SPDX-License-Identifier: Apache-2.0
"""Segment ids in a PNG file are compared with those that are listed for it."""

import numpy as np
import pytest
from PIL import Image

from tests.checking.data_sets import write_map
from unisegment.data.reading.image_reading import read_image
from unisegment.data.reading.panoptic_maps import largest_number, map_problems
from unisegment.ops.masks import ids_to_rgb, rgb_to_ids


def problems(file, listed, hidden=False):
    return map_problems(file, rgb_to_ids(read_image(file)), listed, file.with_name("a.json"), hidden)


@pytest.mark.parametrize(("mode", "largest"), [("1", 1), ("L", 255), ("P", 255), ("I;16", 65535), ("RGB", 2**24 - 1)])
def test_largest_numbers(mode, largest):
    assert largest_number(mode) == largest


@pytest.mark.parametrize(
    ("listed", "hidden", "kinds"),
    [
        ([300, 70_000], False, []),
        ([300], False, ["unlisted-segment"]),
        ([300, 70_000, 5], False, ["undrawn-segment"]),
        ([300, 70_000, 5], True, []),
        ([300, 5], False, ["unlisted-segment", "undrawn-segment"]),
        ([300, 5], True, ["unlisted-segment"]),
    ],
)
def test_segment_ids_are_compared(tmp_path, listed, hidden, kinds):
    write_map(tmp_path / "a.png", ids_to_rgb(np.array([[0, 300, 70_000]])))
    assert [problem.kind for problem in problems(tmp_path / "a.png", listed, hidden)] == kinds


def test_the_ids_are_named(tmp_path):
    write_map(tmp_path / "a.png", ids_to_rgb(np.array([[0, 300, 70_000]])))
    unlisted, undrawn = problems(tmp_path / "a.png", [70_000, *range(1, 8)])
    assert str(unlisted) == f"{tmp_path}/a.png: it has ids that {tmp_path}/a.json does not list for it: [300]."
    assert (unlisted.box, undrawn.box) == ((1, 0, 2, 1), None)
    assert undrawn.detail == f"it lacks ids that {tmp_path}/a.json lists for it: [1, 2, 3, 4, 5] and 2 more."


def test_a_file_of_one_channel_holds_no_ids(tmp_path):
    write_map(tmp_path / "a.png", np.array([[0, 7, 9]], np.uint8))
    for listed, kind in (([7, 9], "label-map-channels"), ([7, 70_000], "id-too-large")):
        (problem,) = problems(tmp_path / "a.png", listed)
        assert problem.kind == kind
    assert "[70000]" in problem.detail
    # All void: nothing is lost.
    write_map(tmp_path / "a.png", np.zeros((5, 7), np.uint8))
    assert problems(tmp_path / "a.png", []) == []


def test_a_jpeg_file_does_not_keep_ids(tmp_path):
    ids = np.arange(1, 36).reshape(5, 7) * 70_000
    Image.fromarray(ids_to_rgb(ids)).save(tmp_path / "a.png", format="JPEG")
    assert [problem.kind for problem in problems(tmp_path / "a.png", ids.ravel().tolist())] == ["lossy-label-map"]
