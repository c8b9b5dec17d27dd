# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from transformers.models.mask2former.modeling_mask2former import sample_point

from tests.data.map_files import in_form
from unisegment.ops.point_sampling import sample_map, sample_target, uncertain_points
from unisegment.structures import SegmentationTarget

HEIGHT, WIDTH = 13, 29


@pytest.fixture
def target():
    id_map = torch.randint(0, 4, (HEIGHT, WIDTH)) * 70_000
    return SegmentationTarget(
        labels=torch.tensor([3, 1, 1]), id_map=id_map, segment_ids=torch.tensor([140_000, 70_000, 210_000])
    )


def points_everywhere(*shape):
    """Points inside, on the border, and outside of the image."""
    return torch.rand(*shape, 2) * 1.2 - 0.1


def test_sample_map_equals_transformers():
    features, points = torch.randn(2, 3, HEIGHT, WIDTH), points_everywhere(2, 101)
    torch.testing.assert_close(
        sample_map(features, points), sample_point(features, points, align_corners=False), rtol=0, atol=0
    )


def test_sample_map_finds_pixel_centres():
    features = torch.arange(HEIGHT * WIDTH, dtype=torch.float32).view(1, 1, HEIGHT, WIDTH)
    points = torch.tensor([[[(5 + 0.5) / WIDTH, (11 + 0.5) / HEIGHT]]])
    assert sample_map(features, points).item() == pytest.approx(11 * WIDTH + 5, abs=1e-3)


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
@pytest.mark.parametrize("shared", [True, False])
def test_targets_are_sampled_as_float_masks_would_be(target, form, shared):
    masks = target.binary_masks()
    target = in_form(target, form)
    points = points_everywhere(1 if shared else 3, 401)
    expected = F.grid_sample(masks[:, None].float(), 2 * points.expand(3, -1, -1)[:, None] - 1, align_corners=False)[
        :, 0, 0
    ]
    torch.testing.assert_close(sample_target(target, points), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
def test_segments_can_be_chosen_and_repeated(target, form):
    target = in_form(target, form)
    points = points_everywhere(4, 53)
    segments = torch.tensor([2, 0, 2, 1])
    chosen = sample_target(target, points, segments)
    for row, segment in enumerate(segments):
        torch.testing.assert_close(chosen[row], sample_target(target, points[row : row + 1])[segment])


def test_no_segments_give_no_rows():
    empty = SegmentationTarget(labels=[], masks=torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool))
    assert sample_target(empty, points_everywhere(1, 11)).shape == (0, 11)
    empty = SegmentationTarget(labels=[], id_map=torch.zeros(HEIGHT, WIDTH), segment_ids=[])
    assert sample_target(empty, points_everywhere(1, 11)).shape == (0, 11)


def test_uncertain_points_gather_where_the_logit_is_near_zero():
    # Certain on the left, uncertain on the right; the second mask the other way round.
    logits = torch.full((2, HEIGHT, WIDTH), 9.0)
    logits[0, :, WIDTH // 2 :] = 0.01
    logits[1, :, : WIDTH // 2] = -0.01
    points = uncertain_points(logits, 200, oversample_ratio=3.0, importance_sample_ratio=0.75)
    assert points.shape == (2, 200, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    assert (points[0, :150, 0] > 0.45).all()
    assert (points[1, :150, 0] < 0.55).all()
    assert 15 <= (points[:, 150:, 0] < 0.5).sum(1).min() <= 35  # the rest is uniform


def test_points_come_from_the_generator_that_is_given():
    logits, before = torch.randn(3, HEIGHT, WIDTH), torch.get_rng_state()
    first, again = (uncertain_points(logits, 20, 3.0, 0.75, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_uncertain_points_of_no_masks():
    assert uncertain_points(torch.zeros(0, HEIGHT, WIDTH), 7, 3.0, 0.75).shape == (0, 7, 2)


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
@pytest.mark.parametrize("shared", [True, False])
def test_nothing_depends_on_how_many_masks_are_sampled_at_a_time(target, form, shared):
    target = in_form(target, form)
    segments = torch.tensor([2, 0, 2, 1, 1])
    points = points_everywhere(1 if shared else 5, 53)
    logits = torch.randn(5, HEIGHT, WIDTH)
    whole = sample_target(target, points, segments), uncertain_points(logits, 20, 3.0, 0.75)
    assert torch.equal(sample_target(target, points, segments, max_points=120), whole[0])
    assert uncertain_points(logits, 20, 3.0, 0.75, max_points=120).shape == whole[1].shape
