# SPDX-License-Identifier: Apache-2.0
"""Samples of all shapes and sizes become small pictures, and one sheet."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from unisegment.checking.contact_sheet import draw_contact_sheet, draw_image, draw_tile
from unisegment.structures import Sample, SegmentationTarget


def sample_of(size, form="id_map"):
    ids = torch.zeros(size, dtype=torch.int32)
    ids[:, size[1] // 2 :] = 5
    target = SegmentationTarget(
        labels=torch.tensor([0]),
        is_crowd=torch.tensor([True]),
        **({"masks": (ids == 5)[None]} if form == "masks" else {"id_map": ids, "segment_ids": torch.tensor([5])}),
    )
    return Sample(np.full((*size, 3), (200, 20, 20), np.uint8), 1, "a.jpg", target=target)


@pytest.mark.parametrize("form", ["id_map", "masks"])
@pytest.mark.parametrize("size", [(1, 1), (3, 701), (997, 5), (29, 37), (1009, 1511)])
def test_image_and_target_stand_side_by_side(size, form):
    with Image.open(io.BytesIO(draw_tile(sample_of(size, form), {0: "cow"}))) as tile:
        width = (tile.width - 6) // 2
        assert max(width, tile.height) == 360
        assert width / tile.height == pytest.approx(size[1] / size[0], rel=0.02) or min(width, tile.height) < 4
        pixels = np.asarray(tile).astype(int)
    if min(size) < 20:
        return
    # At edges, JPEG blurs.
    left, right = pixels[16:-16, 16 : width - 16], pixels[16:-16, width + 6 :]
    assert abs(left - (200, 20, 20)).max() < 9
    void = right[:, 16 : width // 2 - 20]  # hatched in grey
    assert np.ptp(void, axis=-1).max() < 9
    assert np.ptp(void) > 60
    assert abs(right[:, width // 2 + 20 :] - (200, 20, 20)).mean() > 30


def test_an_empty_target_is_drawn():
    target = SegmentationTarget(labels=torch.zeros(0), masks=torch.zeros(0, 29, 37))
    assert draw_tile(Sample(np.zeros((29, 37, 3), np.uint8), 1, "a.jpg", target=target), {})


def test_frames_stand_around_boxes():
    image = np.full((90, 180, 3), 128, np.uint8)
    with Image.open(io.BytesIO(draw_image(image, [(30, 20, 60, 45), (150, 80, 4000, 5000)]))) as tile:
        assert tile.size == (360, 180)
        pixels = np.asarray(tile).astype(int)
    is_frame = (pixels[..., 0] - pixels[..., 1]) > 100
    rows, columns = np.nonzero(is_frame[:, :200])
    # Twice the size, and four pixels outside.
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == pytest.approx([36, 94, 56, 124], abs=2)
    assert not is_frame[42:88, 62:118].any()
    assert is_frame[-2:, 310:].any()  # what lies outside has its frame at the edge
    assert is_frame[160:, -2:].any()


@pytest.mark.parametrize("size", [(1, 1), (3, 701)])
def test_frames_fit_tiny_images(size):
    assert draw_image(np.zeros((*size, 3), np.uint8), [(0, 0, 1, 1), (-9, -9, -3, -3)])
    assert draw_tile(sample_of(size), {0: "cow"}, [(0, 0, 1, 1)])


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_sheet_holds_all_tiles(number):
    names = ["a.jpg", "a name that is too long " * 9, "\udcff.jpg", "日本.jpg", ""]
    tiles = [(names[place], draw_tile(sample_of((29, 37)), {0: "cow"})) for place in range(number)]
    with Image.open(io.BytesIO(draw_contact_sheet(tiles))) as sheet:
        rows, columns = -(-number // 2), min(number, 2)
        assert sheet.size == (columns * (726 + 12) + 12, rows * (392 + 12) + 12)
