# SPDX-License-Identifier: Apache-2.0
import io
from itertools import groupby

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from unisegment.ops.masks import boxes_from_masks, ids_to_rgb, pixel_runs, rgb_to_ids, segment_index_map
from unisegment.ops.rle import encode_rle
from unisegment.structures import SegmentationTarget

HEIGHT, WIDTH = 11, 17


def random_masks(num=5):
    return torch.rand(num, HEIGHT, WIDTH) < 0.4


def test_colors_of_known_ids():
    ids = np.array([[0, 1, 255], [256, 65536, 2**24 - 1]], np.int32)
    colors = np.array(
        [[[0, 0, 0], [1, 0, 0], [255, 0, 0]], [[0, 1, 0], [0, 0, 1], [255, 255, 255]]],
        np.uint8,
    )
    np.testing.assert_array_equal(ids_to_rgb(ids), colors)
    np.testing.assert_array_equal(rgb_to_ids(colors), ids)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_ids_survive_a_png_file(dtype):
    ids = np.random.default_rng(0).integers(0, 2**24, (HEIGHT, WIDTH)).astype(dtype)
    file = io.BytesIO()
    Image.fromarray(ids_to_rgb(ids)).save(file, "png")
    read = rgb_to_ids(np.asarray(Image.open(file)))
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, ids)


def test_small_integer_types_become_colors():
    ids = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    np.testing.assert_array_equal(ids_to_rgb(ids)[..., 0], ids)
    assert not ids_to_rgb(ids)[..., 1:].any()


@pytest.mark.parametrize("wrong", [-1, 2**24])
def test_an_id_that_fits_no_color_is_refused(wrong):
    with pytest.raises(ValueError, match=f"from 0 to 16777215.*{wrong}"):
        ids_to_rgb(np.array([[3, wrong, 5]]))


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 5), np.uint8), np.zeros((3, 5, 4), np.uint8), np.zeros((3, 5, 3), np.int32)]
)
def test_what_is_no_color_image_is_refused(wrong):
    with pytest.raises(ValueError, match="colors must be"):
        rgb_to_ids(wrong)


def test_boxes_of_known_masks():
    masks = torch.zeros(4, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    masks[1, 10, 16] = True
    masks[2] = True
    expected = [[3, 2, 9, 5], [16, 10, 17, 11], [0, 0, 17, 11], [0, 0, 0, 0]]
    assert boxes_from_masks(masks).tolist() == expected


def test_boxes_are_those_of_pycocotools():
    masks = torch.rand(29, HEIGHT, WIDTH) < 0.02
    masks[masks.sum(dim=(1, 2)) == 0, 3, 5] = True
    x, y, width, height = coco_mask.toBbox(encode_rle(masks)).T
    np.testing.assert_array_equal(boxes_from_masks(masks).numpy(), np.stack([x, y, x + width, y + height], axis=1))


def test_no_mask_gives_no_box():
    assert boxes_from_masks(random_masks(0)).shape == (0, 4)


def test_index_map_of_an_id_map():
    id_map = torch.tensor([[0, 7, 2**24 - 1], [2**24 - 2, 3, -1]])
    target = SegmentationTarget(
        labels=torch.zeros(4, dtype=torch.int64),
        id_map=id_map,
        segment_ids=torch.tensor([2**24 - 2, 0, 5, 7]),
    )
    assert segment_index_map(target).tolist() == [[1, 3, -1], [0, -1, -1]]


def test_index_map_agrees_with_binary_masks():
    id_map = torch.randint(0, 13, (HEIGHT, WIDTH))
    ids = torch.randperm(13)[:7]
    by_ids = SegmentationTarget(labels=torch.arange(7), id_map=id_map, segment_ids=ids)
    by_masks = SegmentationTarget(labels=torch.arange(7), masks=by_ids.binary_masks())
    expected = torch.full((HEIGHT, WIDTH), -1)
    for index, segment_id in enumerate(ids):
        expected[id_map == segment_id] = index
    assert torch.equal(segment_index_map(by_ids), expected)
    assert torch.equal(segment_index_map(by_masks), expected)


def test_index_map_of_a_target_without_segments_is_void():
    nothing = torch.zeros(0, dtype=torch.int64)
    by_ids = SegmentationTarget(
        labels=nothing, id_map=torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), segment_ids=nothing
    )
    by_masks = SegmentationTarget(labels=nothing, masks=random_masks(0))
    for target in (by_ids, by_masks):
        assert torch.equal(segment_index_map(target), torch.full((HEIGHT, WIDTH), -1))


def test_overlapping_masks_have_no_index_map():
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, :3] = True
    masks[1, 5:] = True
    masks[2, 7, 11] = True
    with pytest.raises(ValueError, match=r"segments 1 and 2 .* overlap"):
        segment_index_map(SegmentationTarget(labels=torch.arange(3), masks=masks))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_runs_of_pixels(dtype):
    for num in (0, 1, 2, 37):
        pixels = np.random.default_rng(num).integers(0, 3, num).astype(dtype)
        expected = [(value, len(list(run))) for value, run in groupby(pixels.tolist())]
        values, lengths = pixel_runs(pixels)
        assert [*zip(values.tolist(), lengths.tolist(), strict=True)] == expected
