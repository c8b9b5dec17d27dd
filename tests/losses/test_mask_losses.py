# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from transformers.models.mask2former import modeling_mask2former as peer

from unisegment.losses.mask_losses import (
    dice_loss,
    pairwise_dice_loss,
    pairwise_sigmoid_cross_entropy_loss,
    sigmoid_cross_entropy_loss,
)


def test_matched_losses_equal_those_of_transformers():
    logits, masks = torch.randn(5, 211) * 3, torch.rand(5, 211)
    torch.testing.assert_close(
        sigmoid_cross_entropy_loss(logits, masks).sum() / 7, peer.sigmoid_cross_entropy_loss(logits, masks, 7)
    )
    torch.testing.assert_close(dice_loss(logits, masks).sum() / 7, peer.dice_loss(logits, masks, 7))


def test_pairwise_losses_equal_those_of_transformers():
    logits, masks = torch.randn(5, 211) * 3, torch.rand(3, 211)
    torch.testing.assert_close(
        pairwise_sigmoid_cross_entropy_loss(logits, masks), peer.pair_wise_sigmoid_cross_entropy_loss(logits, masks)
    )
    torch.testing.assert_close(pairwise_dice_loss(logits, masks), peer.pair_wise_dice_loss(logits, masks))


@pytest.mark.parametrize(
    ("pairwise", "matched"),
    [(pairwise_dice_loss, dice_loss), (pairwise_sigmoid_cross_entropy_loss, sigmoid_cross_entropy_loss)],
)
def test_pairwise_is_matched_for_every_pair(pairwise, matched):
    logits, masks = torch.randn(2, 5, 101), torch.rand(3, 101)
    table = pairwise(logits, masks)
    assert table.shape == (2, 5, 3)
    for t in range(2):
        for q in range(5):
            torch.testing.assert_close(table[t, q], matched(logits[t, q].expand(3, -1), masks))


def test_values_known_by_hand():
    zeros, ones = torch.zeros(1, 12544), torch.ones(1, 12544)
    assert sigmoid_cross_entropy_loss(zeros, ones).item() == pytest.approx(math.log(2))
    assert dice_loss(zeros, ones).item() == pytest.approx(0.33332, abs=1e-5)
    assert dice_loss(zeros - 100, zeros).item() == 0  # nothing there, nothing found


def test_huge_logits_stay_finite():
    logits, masks = torch.tensor([[1e4, -1e4]]), torch.tensor([[0.0, 1.0]])
    assert pairwise_sigmoid_cross_entropy_loss(logits, masks).item() == pytest.approx(1e4)
    assert sigmoid_cross_entropy_loss(logits, masks).item() == pytest.approx(1e4)
