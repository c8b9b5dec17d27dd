# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unisegment.postprocessing.resize import Frame, check_share, frames_of_batch, logit, resize_queries, resize_rows
from unisegment.postprocessing.semantic import class_scores, label_pixels

LENGTHS = st.integers(1, 23)


def interpolation_matrix(new_length, old_length):
    """Weights of old pixels in new ones, by the areas of pixels: the definition, in float64."""
    weights = np.zeros((new_length, old_length))
    for new in range(new_length):
        position = max((new + 0.5) * old_length / new_length - 0.5, 0.0)
        upper = min(int(position), old_length - 1)
        lower = min(upper + 1, old_length - 1)
        weights[new, upper] += 1 - (position - upper)
        weights[new, lower] += position - upper
    return weights


def resize_by_matrices(mask_logits, image_size, target_size, stride):
    logits = mask_logits.double().numpy()
    for axis in (0, 1):
        grid = logits.shape[1 + axis]
        to_canvas = interpolation_matrix(stride * grid, grid)[: image_size[axis]]
        to_target = interpolation_matrix(target_size[axis], image_size[axis])
        logits = np.moveaxis(np.tensordot(to_target @ to_canvas, logits, axes=(1, 1 + axis)), 0, 1 + axis)
    return torch.from_numpy(logits)


def all_queries(mask_logits, frame, max_elements):
    pieces = list(resize_queries(mask_logits, frame, max_elements))
    assert [piece.start for piece, _ in pieces] == [0, *(piece.stop for piece, _ in pieces[:-1])]
    return torch.cat([logits for _, logits in pieces]), len(pieces)


def all_rows(mask_logits, frame, max_elements):
    pieces = [resize_rows(mask_logits, frame, rows) for rows in pieces_of(frame.target_size[0], max_elements)]
    return torch.cat(pieces, dim=1), len(pieces)


def pieces_of(height, max_elements):
    """All rows as one piece where many elements are wanted, else in pieces of 1, 2 or 3 rows."""
    step = height if max_elements > 10**6 else 1 + max_elements // 4000
    return [slice(first, first + step) for first in range(0, height, step)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    data=st.data(),
    target=st.tuples(LENGTHS, LENGTHS),
    stride=st.sampled_from([4, 3, 8]),
)
def test_two_resizes_with_a_crop_between_them(grid, data, target, stride):
    image = tuple(data.draw(st.integers(1, stride * length)) for length in grid)
    mask_logits = torch.randn(3, *grid, generator=torch.Generator().manual_seed(sum(target))) * 10
    expected = resize_by_matrices(mask_logits, image, target, stride)
    for resize in (all_queries, all_rows):
        for max_elements in (1, 10**9):
            resized, num_pieces = resize(mask_logits, Frame(image, target, stride), max_elements)
            torch.testing.assert_close(resized.double(), expected, rtol=0, atol=2e-5)
            assert num_pieces == (1 if max_elements > 1 else 3 if resize is all_queries else target[0])


@pytest.mark.parametrize("resize", [all_queries, all_rows])
def test_pieces_do_not_change_a_bit(resize):
    mask_logits = torch.randn(5, 7, 11)
    whole, _ = resize(mask_logits, Frame((23, 41), (61, 37), 4), 10**9)
    for max_elements in (1, 4000, 9000):
        pieces, num_pieces = resize(mask_logits, Frame((23, 41), (61, 37), 4), max_elements)
        assert num_pieces > 1
        assert torch.equal(pieces, whole)


@pytest.mark.parametrize("resize", [all_queries, all_rows])
def test_no_resize_beyond_the_canvas_changes_nothing(resize):
    mask_logits = torch.randn(3, 5, 7)
    canvas = torch.nn.functional.interpolate(mask_logits[None], scale_factor=4, mode="bilinear")[0]
    resized, _ = resize(mask_logits, Frame((17, 23), (17, 23), 4), 1)
    # Rows are blended in another order, so they may differ in the last digit.
    torch.testing.assert_close(resized, canvas[:, :17, :23], rtol=0, atol=1e-6 if resize is all_rows else 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("resize", [all_queries, all_rows])
def test_other_precisions_are_resized_in_float32(resize, dtype):
    mask_logits = torch.randn(3, 5, 7).to(dtype)
    frame = Frame((17, 23), (31, 29), 4)
    resized, _ = resize(mask_logits, frame, 2000)
    assert resized.dtype == torch.float32
    assert torch.equal(resized, resize(mask_logits.float(), frame, 2000)[0])


@pytest.mark.parametrize("resize", [all_queries, all_rows])
def test_pieces_may_be_overwritten(resize):
    mask_logits = torch.randn(2, 3, 5)
    before = mask_logits.clone()
    frame = Frame((12, 20), (12, 20), 4)
    rows = (resize_rows(mask_logits, frame, rows) for rows in pieces_of(12, 1))
    for logits in rows if resize is all_rows else (logits for _, logits in resize_queries(mask_logits, frame)):
        logits.zero_()
    assert torch.equal(mask_logits, before)


def test_no_piece_is_larger_than_asked_for(monkeypatch):
    sizes = []
    interpolate = torch.nn.functional.interpolate

    def recorded(*args, **kwargs):
        sizes.append(interpolate(*args, **kwargs).numel())
        return interpolate(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "interpolate", recorded)
    mask_logits = torch.randn(20, 50, 30)
    for target, num_classes in (((23, 31), 1), ((401, 53), 70)):
        frame = Frame((197, 118), target, 4)
        for _, logits in resize_queries(mask_logits, frame, 40_000):
            sizes.append(logits.numel())
        scores = class_scores(torch.zeros(20, num_classes + 1), mask_logits, frame)
        given = scores.of_rows

        def of_rows(rows, given=given, width=target[1]):
            sizes.append(given(rows).numel() + 20 * width * (rows.stop - rows.start))
            return given(rows)

        label_pixels([replace(scores, of_rows=of_rows)], max_elements=40_000)
    assert max(sizes) <= 40_000


def logits_of(batch_size=2, queries=3, height=5, width=7):
    return torch.zeros(batch_size, queries, 4), torch.zeros(batch_size, queries, height, width)


def test_frames():
    assert frames_of_batch(*logits_of(), None, None, 4) == [Frame((20, 28), (20, 28), 4)] * 2
    assert frames_of_batch(*logits_of(), None, None, 3) == [Frame((15, 21), (15, 21), 3)] * 2
    sizes = torch.tensor([[17, 28], [20, 11]])
    assert frames_of_batch(*logits_of(), sizes, None, 4) == [Frame((17, 28), (17, 28), 4), Frame((20, 11), (20, 11), 4)]
    expected = [Frame((17, 28), (3, 5), 4), Frame((20, 11), (101, 103), 4)]
    assert frames_of_batch(*logits_of(), sizes, [(3, 5), (101, 103)], 4) == expected
    assert frames_of_batch(*logits_of(), sizes.tolist(), torch.tensor([[3, 5], [101, 103]]), 4) == expected


@pytest.mark.parametrize(
    ("image_sizes", "target_sizes", "message"),
    [
        ([(20, 28)], None, "image_sizes must have one .* each of the 2 images, got 1"),
        (None, [(20, 28)] * 3, "target_sizes must have one .* each of the 2 images, got 3"),
        ([(20, 28), (21, 28)], None, "image_sizes has 21x28 .* canvas of only 20x28"),
        ([(20, 29), (20, 28)], None, "image_sizes has 20x29"),
        ([(0, 28), (20, 28)], None, "image_sizes must be .* at least one pixel"),
        (None, [(20, 28), (20, -1)], "target_sizes must be .* at least one pixel"),
        (None, [(20, 28, 3), (20, 28, 3)], "target_sizes must be"),
    ],
)
def test_sizes_that_do_not_fit(image_sizes, target_sizes, message):
    with pytest.raises(ValueError, match=message):
        frames_of_batch(*logits_of(), image_sizes, target_sizes, 4)


@pytest.mark.parametrize(
    ("class_shape", "mask_shape"),
    [((3, 4), (3, 5, 7)), ((2, 3, 4), (3, 5, 7)), ((2, 3, 4), (2, 5, 5, 7)), ((1, 3, 4), (2, 3, 5, 7))],
)
def test_logits_that_do_not_fit(class_shape, mask_shape):
    with pytest.raises(ValueError, match="of the same batch and queries"):
        frames_of_batch(torch.zeros(class_shape), torch.zeros(mask_shape), None, None, 4)


@pytest.mark.parametrize(("class_shape", "mask_shape"), [((2, 3, 1), (2, 3, 5, 7)), ((2, 0, 4), (2, 0, 5, 7))])
def test_nothing_to_choose_from(class_shape, mask_shape):
    with pytest.raises(ValueError, match="There must be a query, a class beside 'no object' and a pixel"):
        frames_of_batch(torch.zeros(class_shape), torch.zeros(mask_shape), None, None, 4)


def test_share():
    for value in (0, 0.5, 1):
        check_share("threshold", value)
    for value in (-0.01, 1.01, float("nan")):
        with pytest.raises(ValueError, match="threshold must be from 0 to 1"):
            check_share("threshold", value)


def test_logit():
    assert logit(0.5) == 0
    assert logit(0.8) == pytest.approx(np.log(4))
    assert (logit(0), logit(1)) == (-np.inf, np.inf)
