# SPDX-License-Identifier: Apache-2.0
"""The oracle for whole processors is transformers', see the tests of EoMT's image processor."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from unisegment.postprocessing import resize
from unisegment.postprocessing.resize import Frame
from unisegment.postprocessing.semantic import label_pixels
from unisegment.postprocessing.windows import square_windows, window_scores


@settings(max_examples=200, deadline=None, derandomize=True)
@given(size=st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_windows_are_squares_that_cover_the_image_evenly(size):
    windows, side, length = square_windows(size), min(size), max(size)
    assert len(windows) == math.ceil(length / side)
    seen = torch.zeros(size, dtype=torch.int64)
    for rows, columns in windows:
        assert seen[rows, columns].shape == (side, side)
        seen[rows, columns] += 1
    assert seen.min() == 1
    starts = [max(rows.start, columns.start) for rows, columns in windows]
    steps = {later - earlier for earlier, later in itertools.pairwise(starts)}
    assert max(steps, default=0) - min(steps, default=0) <= 1


def test_where_windows_lie():
    assert square_windows((5, 12)) == [(slice(0, 5), slice(start, start + 5)) for start in (0, 3, 7)]
    assert square_windows((12, 5)) == [(slice(start, start + 5), slice(0, 5)) for start in (0, 3, 7)]
    assert square_windows((5, 10)) == [(slice(0, 5), slice(0, 5)), (slice(0, 5), slice(5, 10))]
    assert square_windows((5, 5)) == [(slice(0, 5), slice(0, 5))]


def logits_of(num_windows, grid, seed):
    generator = torch.Generator().manual_seed(seed)
    class_logits = 4 * torch.randn(num_windows, 7, 5, generator=generator)
    return class_logits, 4 * torch.randn(num_windows, 7, *grid, generator=generator)


def expected_scores(class_logits, mask_logits, size, wanted, stride):
    """The definition: whole canvases of all windows, added up in float64."""
    scores, counts = torch.zeros(4, *size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    canvas = [stride * length for length in mask_logits.shape[2:]]
    masks = F.interpolate(mask_logits.double(), canvas, mode="bilinear", align_corners=False)
    side = min(size)
    for (rows, columns), classes, own in zip(square_windows(size), class_logits.double(), masks, strict=True):
        probs = own[:, :side, :side].sigmoid()
        scores[:, rows, columns] += torch.einsum("qk,qhw->khw", classes.softmax(-1)[:, :-1], probs)
        counts[rows, columns] += 1
    return F.interpolate((scores / counts)[None], wanted, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize(
    ("size", "wanted"), [((17, 40), (31, 73)), ((40, 17), (9, 5)), ((20, 20), (20, 20)), ((17, 61), (200, 11))]
)
@pytest.mark.parametrize("stride", [4, 3])
@pytest.mark.parametrize("max_elements", [1, 9001, 10**9])
def test_scores_are_averaged_and_then_resized(size, wanted, stride, max_elements):
    logits = logits_of(len(square_windows(size)), (7, 8), seed=sum(size))
    expected = expected_scores(*logits, size, wanted, stride)
    scores = window_scores(*logits, square_windows(size), Frame(size, wanted, stride))
    (found,) = label_pixels([scores], return_segmentation_scores=True, max_elements=max_elements)
    torch.testing.assert_close(found.segmentation_scores.double(), expected, rtol=0, atol=1e-5)
    chosen = expected.gather(0, found.segmentation[None])[0]
    torch.testing.assert_close(chosen, expected.amax(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("wanted", [(60, 150), (15, 36), (301, 701)])
def test_no_piece_is_larger_than_asked_for(monkeypatch, wanted):
    sizes = []
    for name in ("interpolate", "blend_rows"):
        function = getattr(resize, name)

        def recorded(*args, function=function):
            sizes.append(function(*args).numel())
            return function(*args)

        for module in ("resize", "windows"):
            monkeypatch.setattr(f"unisegment.postprocessing.{module}.{name}", recorded)
    size = (60, 150)
    logits = logits_of(3, (15, 15), seed=1)
    scores = window_scores(*logits, square_windows(size), Frame(size, wanted, 4))
    label_pixels([scores], max_elements=60_000)
    assert 10_000 < max(sizes) <= 60_000


def test_half_precision_is_evaluated_in_float32():
    size = (17, 40)
    logits = [part.bfloat16() for part in logits_of(3, (7, 8), seed=2)]
    frame = Frame(size, (31, 73), 4)
    half = window_scores(*logits, square_windows(size), frame).of_rows(slice(3, 9))
    full = window_scores(*(part.float() for part in logits), square_windows(size), frame).of_rows(slice(3, 9))
    assert half.shape == (4, 6, 73)
    assert torch.equal(half, full)
