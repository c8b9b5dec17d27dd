# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from PIL import Image

from unisegment.data.reading.annotation_reading import check_target, read_segment_map, target_from_map, without_vanished
from unisegment.structures import SegmentationTarget

MAP = np.array([[0, 3, 3, 7, 255], [0, 0, 3, 7, 7], [9, 9, 9, 9, 255]])


@pytest.mark.parametrize(
    "form",
    [
        lambda ids: ids,
        lambda ids: ids[None],
        lambda ids: ids[..., None],
        lambda ids: ids.astype(np.uint8),
        lambda ids: ids.astype(np.float32),
        lambda ids: torch.from_numpy(ids),
        lambda ids: torch.from_numpy(ids)[None].to(torch.uint8),
        lambda ids: Image.fromarray(ids.astype(np.uint8)),
        lambda ids: Image.fromarray(ids.astype(np.uint16)),
        lambda ids: Image.fromarray(ids.astype(np.int32)),
    ],
)
def test_forms_of_maps(form):
    segment_map = read_segment_map(form(MAP))
    assert segment_map.dtype == np.int32
    assert segment_map.tolist() == MAP.tolist()


def test_a_palette_image_holds_numbers_not_colours():
    image = Image.fromarray(MAP.astype(np.uint8)).convert("P")
    image.putpalette([7, 8, 9] * 256)
    assert read_segment_map(image).tolist() == MAP.tolist()


def test_black_and_white_is_zero_and_one():
    assert read_segment_map(Image.fromarray(MAP == 3)).tolist() == (MAP == 3).astype(int).tolist()


@pytest.mark.parametrize(
    ("segment_map", "message"),
    [
        (np.zeros((5, 7, 3), np.uint8), "Turn colours into numbers first"),
        (np.zeros((0, 7), np.uint8), "not empty"),
        (np.zeros(7, np.uint8), "must be .height, width."),
        (np.full((5, 7), 0.5), "whole numbers"),
        (np.full((5, 7), np.nan), "whole numbers"),
        (np.full((5, 7), np.inf), "32 bits"),
        (np.full((5, 7), 2**31), "32 bits, got 2147483648"),
        ("map.png", "got str"),
    ],
)
def test_what_is_no_map(segment_map, message):
    with pytest.raises(ValueError, match=message):
        read_segment_map(segment_map)


def described(target):
    return list(zip(target.segment_ids.tolist(), target.labels.tolist(), strict=True))


def test_numbers_that_are_labels():
    assert described(target_from_map(MAP)) == [(0, 0), (3, 3), (7, 7), (9, 9), (255, 255)]
    assert described(target_from_map(MAP, ignore_index=255)) == [(0, 0), (3, 3), (7, 7), (9, 9)]
    assert described(target_from_map(MAP, ignore_index=0)) == [(3, 3), (7, 7), (9, 9), (255, 255)]
    reduced = target_from_map(MAP, ignore_index=255, do_reduce_labels=True)
    assert described(reduced) == [(3, 2), (7, 6), (9, 8)]
    assert torch.equal(reduced.binary_masks()[0], torch.from_numpy(MAP == 3))


def test_numbers_that_are_segments():
    label_of_id = {0: 0, 3: 5, 7: 5, 9: 1, 255: 2}
    assert described(target_from_map(MAP, label_of_id)) == [(0, 0), (3, 5), (7, 5), (9, 1), (255, 2)]
    reduced = target_from_map(MAP, {3: 5, 7: 0, 9: 1, 255: 2}, do_reduce_labels=True)
    assert described(reduced) == [(3, 4), (9, 0), (255, 1)]


def test_numbers_beyond_a_byte():
    segment_map = np.array([[300, 70_000, 44, 16_000_000]])
    target = target_from_map(segment_map, {300: 1, 70_000: 2, 44: 3, 16_000_000: 4})
    assert described(target) == [(44, 3), (300, 1), (70_000, 2), (16_000_000, 4)]


def test_nothing_but_void():
    target = target_from_map(np.full((5, 7), 255), ignore_index=255)
    assert len(target) == 0
    assert target.size == (5, 7)


def test_numbers_without_a_label():
    with pytest.raises(ValueError, match=r"has no label for the numbers \[3, 255\]"):
        target_from_map(MAP, {0: 0, 7: 1, 9: 2})


def test_check():
    target = target_from_map(MAP)
    check_target(target, (3, 5), None)
    check_target(target, (3, 5), 256)
    with pytest.raises(ValueError, match=r"image is 5x3 .* annotation is 3x5"):
        check_target(target, (5, 3), None)
    with pytest.raises(ValueError, match=r"labels \[9, 255\], but labels are from 0 to 8, as num_labels is 9"):
        check_target(target, (3, 5), 9)
    with pytest.raises(ValueError, match=r"labels \[-1\], but labels are 0 or more"):
        check_target(target_from_map(MAP - 1), (3, 5), None)


def test_vanished_segments():
    target = SegmentationTarget(
        labels=torch.tensor([4, 5, 6]), id_map=torch.tensor([[2, 2, 9]]), segment_ids=torch.tensor([9, 3, 2])
    )
    assert described(without_vanished(target)) == [(9, 4), (2, 6)]
