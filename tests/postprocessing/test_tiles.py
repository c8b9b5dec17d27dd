# SPDX-License-Identifier: Apache-2.0
import math
from functools import partial
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.postprocessing.blobs import blob_logits
from unisegment.postprocessing import (
    instance,
    instance_predictions,
    panoptic,
    panoptic_predictions,
    semantic_predictions,
)
from unisegment.postprocessing.resize import Frame
from unisegment.postprocessing.semantic import class_scores, label_pixels
from unisegment.postprocessing.tiles import COLUMNS, PART, Tiles

FRAMES = [((36, 52), (263, 301)), ((148, 212), (148, 212)), ((131, 209), (67, 139))]
"""Sizes of images on a canvas of 148x212, and of results of several tiles."""


def resized(mask_logits, frame):
    """The two resizes with a crop between them."""
    resize = partial(F.interpolate, mode="bilinear", align_corners=False)
    canvas = resize(mask_logits[None], size=[frame.mask_stride * length for length in mask_logits.shape[1:]])
    return resize(canvas[..., : frame.image_size[0], : frame.image_size[1]], size=frame.target_size)[0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    grid=st.tuples(st.integers(1, 11), st.integers(1, 47)),
    data=st.data(),
    target=st.tuples(st.integers(1, 151), st.integers(1, 281)),
    stride=st.sampled_from([4, 3, 8]),
    max_elements=st.sampled_from([None, 1, 2000]),
)
def test_tiles_are_parts_of_the_resized_logits_and_lie_within_bounds(grid, data, target, stride, max_elements):
    image = tuple(data.draw(st.integers(1, stride * length)) for length in grid)
    frame = Frame(image, target, stride)
    mask_logits = torch.randn(5, *grid, generator=torch.Generator().manual_seed(sum(target))) * 10
    expected = resized(mask_logits, frame)
    chosen = torch.tensor([3, 1, 4, 0])
    tiles = Tiles(mask_logits, chosen, frame, max_elements)
    lowest, highest = tiles.bounds()
    queries, seen = torch.tensor([3, 0, 2]), torch.zeros(target)
    for number, (rows, columns) in enumerate(tiles.places):
        logits = tiles.logits(number, queries)
        torch.testing.assert_close(logits, expected[chosen[queries], rows, columns], rtol=0, atol=2e-5)
        assert (logits.amin((1, 2)) >= lowest[number, queries]).all()
        assert (logits.amax((1, 2)) <= highest[number, queries]).all()
        assert logits.shape[1:] == tiles.places[number].size
        parts = tiles.bounds_of_parts(tiles.places[number])
        for row, column in {(rows.start, columns.start), (rows.stop - 1, columns.stop - 1)}:
            part = row // PART - rows.start // PART, column // PART
            pixel = logits[:, row - rows.start, column - columns.start]
            assert (parts.lowest[*part, queries] <= pixel).all()
            assert (pixel <= parts.highest[*part, queries]).all()
        seen[rows, columns] += 1
    assert (seen == 1).all()


def test_no_tile_is_larger_than_asked_for():
    mask_logits, everything = torch.randn(7, 50, 80), torch.arange(7)
    for max_elements in (7 * COLUMNS, 7 * COLUMNS * 5 + 3, None):
        tiles = Tiles(mask_logits, everything, Frame((200, 320), (200, 320), 4), max_elements)
        sizes = [tiles.logits(number, everything).numel() for number in range(len(tiles.places))]
        assert max(sizes) <= (max_elements or math.inf)
        assert sum(sizes) == 7 * 200 * 320


def test_logits_are_not_overwritten():
    mask_logits = torch.randn(2, 5, 7)
    before, tiles = mask_logits.clone(), Tiles(mask_logits, torch.arange(2), Frame((20, 28), (20, 28), 4))
    first = tiles.logits(0, torch.arange(2)).clone()
    tiles.logits(0, torch.arange(2)).zero_()
    assert torch.equal(mask_logits, before)
    assert torch.equal(tiles.logits(0, torch.arange(2)), first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_resized_in_float32_whatever_autocast_says(dtype):
    mask_logits, frame = torch.randn(3, 5, 7).to(dtype), Frame((17, 23), (31, 29), 4)
    expected = Tiles(mask_logits.float(), torch.arange(3), frame).logits(0, torch.arange(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Tiles(mask_logits, torch.arange(3), frame).logits(0, torch.arange(3))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("num_sure", [4, 30])
@pytest.mark.parametrize("mask_threshold", [0.5, 0.1, 0.0])
def test_pixels_are_shared_as_without_tiles(frame, num_sure, mask_threshold):
    class_logits, mask_logits = blob_logits((37, 53), 30, 5, num_sure)
    scores = class_logits[0].softmax(-1).amax(-1)
    kept, rules = torch.arange(0, num_sure, 2), panoptic._Rules(0.5, mask_threshold, 0.8, frozenset(), None)
    arguments = mask_logits[0], scores, kept, Frame(*frame, 4), rules
    tiles, plain = panoptic._share_tiles(*arguments), panoptic._share_pixels(*arguments)
    assert torch.equal(tiles.owner, plain.owner)
    assert torch.equal(tiles.areas, plain.areas)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("mask_threshold", [0.5, 0.1, 0.0])
def test_objects_are_measured_and_drawn_as_without_tiles(frame, mask_threshold):
    _, mask_logits = blob_logits((37, 53), 30, 5, 30)
    rules = instance._Rules(0.0, mask_threshold, None, 100, None, None)
    tiles, plain = (measure(mask_logits[0], torch.arange(30), Frame(*frame, 4), rules)
                    for measure in (instance._measure_tiles, instance._measure))  # fmt: skip
    assert torch.equal(tiles.areas, plain.areas)
    torch.testing.assert_close(tiles.mean_probs, plain.mean_probs, rtol=0, atol=1e-6)
    places = torch.tensor([7, 3, 29, 3, 0])
    for drawn, expected in zip(tiles.draw(places), plain.draw(places), strict=True):
        assert drawn.dtype == expected.dtype
        assert torch.equal(drawn, expected)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("num_sure", [4, 30])
def test_labels_are_those_of_all_scores(frame, num_sure):
    class_logits, mask_logits = blob_logits((37, 53), 30, 5, num_sure)
    (found,) = semantic_predictions(class_logits, mask_logits, [frame[0]], [frame[1]])
    image = class_scores(class_logits[0], mask_logits[0], Frame(*frame, 4))
    (expected,) = label_pixels([image], return_segmentation_scores=True)
    first, second = expected.segmentation_scores.topk(2, dim=0).values
    is_clear = first - second > 1e-6
    assert is_clear.float().mean() > 0.98
    assert torch.equal(found.segmentation[is_clear], expected.segmentation[is_clear])
    assert [info["id"] for info in found.segments_info] == [info["id"] for info in expected.segments_info]
    for info, other in zip(found.segments_info, expected.segments_info, strict=True):
        assert info["score"] == pytest.approx(other["score"], abs=1e-4)


def test_queries_that_are_infinitely_unlikely_or_likely_disturb_no_other():
    class_logits, mask_logits = blob_logits((37, 53), 6, 3, 6)
    mask_logits[0, 4:] = torch.tensor([-math.inf, -3e38])[:, None, None]
    arguments = {"threshold": 0.1, "overlap_mask_area_threshold": 0.0}
    for make in (panoptic_predictions, partial(instance_predictions, mask_threshold=0.6), semantic_predictions):
        rules = {} if make is semantic_predictions else arguments
        (with_them,) = make(class_logits, mask_logits, **rules)
        (without,) = make(class_logits[:, :4], mask_logits[:, :4], **rules)
        assert torch.equal(with_them.segmentation, without.segmentation)
        assert len(with_them.segments_info) == len(without.segments_info) > 1
    mask_logits[0, 5] = math.inf
    (prediction,) = instance_predictions(class_logits, mask_logits, threshold=0.1)
    assert prediction.masks.all(dim=2).all(dim=1).sum() == 1


@pytest.mark.parametrize("make", [panoptic_predictions, instance_predictions, semantic_predictions])
def test_what_is_no_number_raises_nothing(make):
    class_logits, mask_logits = blob_logits((37, 53), 6, 3, 6)
    mask_logits[0, 2, 3:5, 7] = math.nan
    (prediction,) = make(class_logits, mask_logits)
    assert len(prediction.segments_info) > 1


def test_queries_too_unlikely_to_change_a_score_are_left_out_of_a_tile():
    class_logits, mask_logits = blob_logits((37, 53), 30, 5, 30)
    mask_logits *= 8
    frame, asked = Frame((148, 212), (148, 212), 4), []

    def logits(self, number, queries):
        asked.append(len(queries))
        return logits_of(self, number, queries)

    logits_of = Tiles.logits
    with mock.patch.object(Tiles, "logits", logits):
        (found,) = semantic_predictions(class_logits, mask_logits)
    (expected,) = label_pixels([class_scores(class_logits[0], mask_logits[0], frame)], return_segmentation_scores=True)
    assert 0 < max(asked) < 30
    best, second = expected.segmentation_scores.topk(2, dim=0).values
    is_clear = best > second * (1 + 1e-5)
    assert is_clear.float().mean() > 0.9
    assert torch.equal(found.segmentation[is_clear], expected.segmentation[is_clear])
    for info, other in zip(found.segments_info, expected.segments_info, strict=True):
        assert info["score"] == pytest.approx(other["score"], rel=1e-5)


def test_a_tile_without_a_query_has_the_first_label():
    mask_logits = torch.full((1, 3, 5, 7), -math.inf)
    (prediction,) = semantic_predictions(torch.randn(1, 3, 4), mask_logits)
    assert prediction.segmentation.unique().tolist() == [0]
    assert prediction.segments_info[0]["score"] == 0
