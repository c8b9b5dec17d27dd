# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from unisegment.ops.rle import decode_rle, encode_rle, encode_segments, pixels_of_rle
from unisegment.structures import SegmentationTarget

HEIGHT, WIDTH = 11, 17


def random_masks(num=5):
    return torch.rand(num, HEIGHT, WIDTH) < 0.4


def by_pycocotools(mask):
    counts = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    return {"size": list(mask.shape), "counts": counts}


def test_run_lengths_are_those_of_pycocotools():
    masks = random_masks()
    rles = json.loads(json.dumps(encode_rle(masks)))
    for rle, mask in zip(rles, masks.numpy(), strict=True):
        expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle == {"size": [HEIGHT, WIDTH], "counts": expected["counts"].decode()}
    assert torch.equal(decode_rle(rles), masks)


def test_run_lengths_of_masks_in_another_memory_layout():
    masks = random_masks()
    transposed = masks.transpose(1, 2).contiguous().transpose(1, 2)
    assert encode_rle(transposed) == encode_rle(masks)


def test_polygons_encoded_by_pycocotools_are_read():
    # Corners (x, y) of a rectangle.
    polygons = [[2.0, 1.0, 9.0, 1.0, 9.0, 4.0, 2.0, 4.0]]
    expected = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    expected[0, 1:4, 2:9] = True
    decoded = decode_rle(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH))
    assert decoded.dtype == torch.bool
    assert torch.equal(decoded, expected)


def test_no_mask_gives_no_run_lengths():
    assert encode_rle(random_masks(0)) == []
    with pytest.raises(ValueError, match="one or more"):
        decode_rle([])


def test_run_lengths_of_different_sizes_are_refused():
    rles = encode_rle(torch.ones(1, 3, 5, dtype=torch.bool)) + encode_rle(torch.ones(1, 5, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\(3, 5\), \(5, 3\)"):
        decode_rle(rles)


# pycocotools' own array class is older than numpy 2.
OLD_ARRAYS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _places(rle):
    return np.flatnonzero(coco_mask.decode(rle))


@OLD_ARRAYS
def test_pixels_of_polygons_are_those_that_pycocotools_draws():
    """Polygons of any form, also over the border, on it and far outside."""
    generator = np.random.default_rng(0)
    for _ in range(4000):
        size = generator.integers(1, 60, 2).tolist()
        center = generator.uniform(-0.5, 1.5, 2) * size[::-1]
        spread = generator.choice([0.3, 2, 11, 40])
        points = center + generator.uniform(-spread, spread, (generator.integers(3, 12), 2))
        points = points.round(generator.choice([0, 1, 2, 14]))
        if generator.uniform() < 0.3:
            points = points.clip(0, size[::-1])
        rle = coco_mask.merge(coco_mask.frPyObjects([points.ravel().tolist()], *size))
        pixels = pixels_of_rle(rle)
        assert pixels.dtype == np.int64
        np.testing.assert_array_equal(np.sort(pixels), _places(rle))


@OLD_ARRAYS
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.98, 1])
def test_pixels_of_masks_are_those_that_pycocotools_draws(share):
    """Runs may go on over several columns, and a polygon may have millions of pixels."""
    generator = np.random.default_rng(1)
    for size in [(HEIGHT, WIDTH), (1, 7), (7, 1), (1, 1), (1201, 1601), *generator.integers(1, 90, (200, 2)).tolist()]:
        rle = coco_mask.encode(np.asfortranarray(generator.uniform(size=size) < share, dtype=np.uint8))
        np.testing.assert_array_equal(np.sort(pixels_of_rle(rle)), _places(rle))


@pytest.mark.parametrize("counts", [b"", b"0", b"zzzz", b"5", b"o", b"_5", b"F6", b"j5o", b"oooooooooooooooooo5"])
def test_run_lengths_that_do_not_fill_the_image_are_refused(counts):
    with pytest.raises(
        ValueError,
        match=r"run lengths \(RLE\) (do not add up to 11x17 pixels|are not in COCO|hold numbers of more than 35 bits)",
    ):
        pixels_of_rle({"size": [HEIGHT, WIDTH], "counts": counts})


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.98, 1])
def test_masks_of_any_size_have_the_run_lengths_of_pycocotools(share):
    """Runs go on over columns; masks are empty, full, and of one row or column."""
    generator = np.random.default_rng(2)
    for size in [(1, 1), (1, 7), (7, 1), (67, 43), *generator.integers(1, 20, (60, 2)).tolist()]:
        masks = generator.uniform(size=(3, *size)) < share
        assert encode_rle(torch.from_numpy(masks)) == [by_pycocotools(mask) for mask in masks]


def test_segments_of_a_map_have_the_run_lengths_of_their_masks():
    id_map = torch.randint(0, 4, (HEIGHT, WIDTH)) * (torch.rand(HEIGHT, WIDTH) < 0.8)
    target = SegmentationTarget(labels=[0, 0, 0], id_map=id_map, segment_ids=[3, 70_000, 1])
    expected = [by_pycocotools(mask) for mask in target.binary_masks().numpy()]
    assert encode_segments(target) == expected
    assert encode_segments(SegmentationTarget(labels=[0, 0, 0], masks=target.binary_masks())) == expected
    assert encode_segments(target.select(torch.zeros(3, dtype=torch.bool))) == []
