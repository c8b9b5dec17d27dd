# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from transformers.models.mask2former.modeling_mask2former import sample_point

from tests.data.map_files import in_form
from unisegment.ops.point_sampling import sample_map, sample_segments, uncertain_points
from unisegment.ops.segment_maps import join_targets
from unisegment.structures import SegmentationTarget

HEIGHT, WIDTH = 13, 29


@pytest.fixture
def target():
    id_map = torch.randint(0, 4, (HEIGHT, WIDTH)) * 70_000
    return SegmentationTarget(
        labels=torch.tensor([3, 1, 1]), id_map=id_map, segment_ids=torch.tensor([140_000, 70_000, 210_000])
    )


def sample(target, points, segments=None, max_points=None):
    """Sample one target."""
    chosen = torch.arange(len(target)) if segments is None else segments
    return sample_segments(join_targets([target], points.device), points, chosen, max_points)


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
    torch.testing.assert_close(sample(target, points), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
def test_segments_can_be_chosen_and_repeated(target, form):
    target = in_form(target, form)
    points = points_everywhere(4, 53)
    segments = torch.tensor([2, 0, 2, 1])
    chosen = sample(target, points, segments)
    for row, segment in enumerate(segments):
        torch.testing.assert_close(chosen[row], sample(target, points[row : row + 1])[segment])


@pytest.mark.parametrize("size", [(1, WIDTH), (HEIGHT, 1), (1, 1), (2, 3)])
def test_small_targets_are_sampled_as_float_masks_would_be(size):
    masks, points = torch.rand(3, *size) > 0.4, points_everywhere(3, 101)
    found = sample(SegmentationTarget(labels=torch.zeros(3), masks=masks), points)
    expected = F.grid_sample(masks[:, None].float(), 2 * points[:, None] - 1, align_corners=False)[:, 0, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("forms", [["id_map"] * 2, ["masks", "id_map"], ["layers", "masks"], ["id_map", "layers"]])
@pytest.mark.parametrize("max_points", [None, 120])
def test_segments_of_several_images_share_the_points_of_their_image(target, forms, max_points):
    other = SegmentationTarget(
        labels=torch.tensor([0]), id_map=torch.randint(0, 2, (HEIGHT, WIDTH)), segment_ids=torch.tensor([1])
    )
    targets = [in_form(one, form) for one, form in zip((target, other), forms, strict=True)]
    maps, points = join_targets(targets, torch.device("cpu")), points_everywhere(2, 53)
    found = sample_segments(maps, points[:, None], maps.of_images(slice(0, 2)), max_points)
    assert found.shape == (2, 3, 53)  # of the second image, two rows mean nothing
    torch.testing.assert_close(found[0], sample(target, points[:1]), rtol=0, atol=0)
    torch.testing.assert_close(found[1, :1], sample(other, points[1:]), rtol=0, atol=0)


def test_no_segments_give_no_rows():
    empty = SegmentationTarget(labels=[], masks=torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool))
    assert sample(empty, points_everywhere(1, 11)).shape == (0, 11)
    empty = SegmentationTarget(labels=[], id_map=torch.zeros(HEIGHT, WIDTH), segment_ids=[])
    assert sample(empty, points_everywhere(1, 11)).shape == (0, 11)


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


@pytest.mark.parametrize("max_points", [None, 60, 150])
@pytest.mark.parametrize("runs", [[5], [2, 3], [1, 0, 3, 1]])
def test_points_of_runs_are_those_of_a_call_for_each(runs, max_points):
    logits, rules = torch.randn(5, HEIGHT, WIDTH), (20, 3.0, 0.75)
    one, other = (torch.Generator().manual_seed(5) for _ in range(2))
    expected = torch.cat([uncertain_points(run, *rules, one) for run in logits.split(runs)])
    assert torch.equal(uncertain_points(logits, *rules, other, max_points, runs).sort(1)[0], expected.sort(1)[0])
    assert torch.equal(one.get_state(), other.get_state())


def test_uncertain_points_of_no_masks():
    assert uncertain_points(torch.zeros(0, HEIGHT, WIDTH), 7, 3.0, 0.75).shape == (0, 7, 2)


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
@pytest.mark.parametrize("shared", [True, False])
def test_nothing_depends_on_how_many_masks_are_sampled_at_a_time(target, form, shared):
    target = in_form(target, form)
    segments = torch.tensor([2, 0, 2, 1, 1])
    points = points_everywhere(1 if shared else 5, 53)
    logits = torch.randn(5, HEIGHT, WIDTH)
    whole = sample(target, points, segments), uncertain_points(logits, 20, 3.0, 0.75)
    assert torch.equal(sample(target, points, segments, max_points=120), whole[0])
    assert uncertain_points(logits, 20, 3.0, 0.75, max_points=120).shape == whole[1].shape
