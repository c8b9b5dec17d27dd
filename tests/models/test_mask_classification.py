# SPDX-License-Identifier: Apache-2.0
"""The part of a model that has to do with queries; the whole is compared with transformers in each family's tests."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from unisegment.models.mask_classification import MaskClassification, class_weights, find_image_sizes, make_criterion
from unisegment.ops.segment_maps import join_targets
from unisegment.structures import SegmentationTarget

CONFIG = SimpleNamespace(
    num_labels=3, num_queries=5, no_object_weight=0.25, class_weight=2.0, mask_weight=5.0, dice_weight=5.0,
    train_num_points=29, oversample_ratio=3.0, importance_sample_ratio=0.75, loss_normalization="global",
)  # fmt: skip


class Queries(MaskClassification, nn.Module):
    def __init__(self, **changes) -> None:
        super().__init__()
        self.config = SimpleNamespace(**{**vars(CONFIG), **changes})
        self.criterion = make_criterion(self.config)
        self.weight = nn.Parameter(torch.zeros(1))


def twice(tensor: torch.Tensor) -> torch.Tensor:
    """Add up over two processes that hold the same."""
    return tensor * 2


def test_denominators_are_those_of_the_whole_batch():
    targets = [[[0] * 2, [0] * 7], [[0] * 1, []]]  # two micro-batches of two images
    own = [[9, 7 + 0.25 * 3], [1, 1 + 0.25 * 9]]  # no more than five segments of an image are matched
    first, second = Queries().loss_denominators(targets, twice, num_processes=2)
    assert first.tolist() == second.tolist() == [10, own[0][1] + own[1][1]]
    by_rank = Queries(loss_normalization="rank").loss_denominators(targets, twice, num_processes=2)
    assert [one.tolist() for one in by_rank] == [[10, 2 * own[0][1]], [10, 2 * own[1][1]]]


def test_a_batch_without_masks_divides_by_one_mask_of_all_processes():
    ((masks, _),) = Queries().loss_denominators([[[], []]], twice, num_processes=2)
    assert masks == 0.5


def test_targets_are_looked_at_unless_they_have_no_values():
    model, images = Queries(), torch.zeros(2, 3, 8, 12)
    masks = [torch.ones(1, 8, 12), torch.ones(2, 8, 12)]
    labels = [torch.tensor([2]), torch.tensor([0, 3])]
    with pytest.raises(ValueError, match=r"class_labels\[1\] has 3, but labels go from 0 to 2"):
        model.read_targets(masks, labels, images)
    with model.loss_without_values():
        assert [len(target) for target in model.read_targets(masks, labels, images)] == [1, 2]
        assert model.criterion.draw_seed() is None
        targets = [SegmentationTarget(labels=[0] * count, masks=torch.ones(count, 8, 12)) for count in (7, 2)]
        segments = join_targets(targets, images.device)
        queries, matched, counts = model.criterion.matcher(torch.zeros(4, 2, 5, 4), images, images, segments)
        assert (len(queries), len(matched), counts) == (4 * 7, 4 * 7, [5, 2])
    assert model.criterion.draw_seed() is not None
    with pytest.raises(ValueError, match="but labels go from 0 to 2"):
        model.read_targets(masks, labels, images)


def test_crowds_are_left_out():
    target = SegmentationTarget(
        masks=torch.ones(2, 8, 12, dtype=torch.bool), labels=torch.tensor([0, 1]), is_crowd=torch.tensor([True, False])
    )
    (read,) = Queries().read_targets([target], None, torch.zeros(1, 3, 8, 12))
    assert read.labels.tolist() == [1]


def test_sizes_of_images_follow_from_the_padding():
    pixel_mask = torch.zeros(2, 8, 12, dtype=torch.int64)
    pixel_mask[0, :5, :7] = pixel_mask[1, :8, :3] = 1
    assert find_image_sizes(torch.zeros(2, 3, 8, 12), pixel_mask).tolist() == [[5, 7], [8, 3]]
    assert find_image_sizes(torch.zeros(2, 3, 8, 12), None).tolist() == [[8, 12], [8, 12]]


def test_empty_queries_count_less():
    assert class_weights(CONFIG).tolist() == [1, 1, 1, 0.25]
