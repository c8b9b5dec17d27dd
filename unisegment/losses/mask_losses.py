# SPDX-License-Identifier: Apache-2.0
"""How far predicted masks are from true ones, at sampled points: matched (one to one) and pairwise (all with all).

Axes: n matched masks, q queries, m true masks, p points. Everything is float32 or better.

Source:
    Mask2Former (arXiv:2112.01527), section 3.3; dice from V-Net (arXiv:1606.04797).
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unisegment.ops.piece_size import PieceSize

MAX_ELEMENTS = PieceSize(cpu=2**22, accelerator=2**25)
"""Mask logits (or points, where these are more) that are held at a time: 16 or 128 megabytes of float32."""

ELEMENTS_PER_POINT = 4
"""Of these, for one point that is sampled at the same time: points are a quarter, and hold a dozen numbers each."""


def sigmoid_cross_entropy_loss(
    mask_logits: Float[Tensor, "n p"], true_masks: Float[Tensor, "n p"]
) -> Float[Tensor, " n"]:
    """Return the mean binary cross-entropy of each mask."""
    return F.binary_cross_entropy_with_logits(mask_logits, true_masks, reduction="none").mean(1)


def dice_loss(mask_logits: Float[Tensor, "n p"], true_masks: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """Return 1 - dice of each mask, with 1 added above and below so that empty masks are defined."""
    mask_probs = mask_logits.sigmoid()
    overlap = 2 * (mask_probs * true_masks).sum(1)
    return 1 - (overlap + 1) / (mask_probs.sum(1) + true_masks.sum(1) + 1)


def pairwise_sigmoid_cross_entropy_loss(
    mask_logits: Float[Tensor, "*t q p"], true_masks: Float[Tensor, "*#t m p"]
) -> Float[Tensor, "*t q m"]:
    """Return the mean binary cross-entropy of every query with every true mask.

    With z the logit and t the truth, the loss of a point is softplus(z) - z t: one matrix product.
    """
    return (F.softplus(mask_logits).sum(-1, keepdim=True) - mask_logits @ true_masks.mT) / mask_logits.shape[-1]


def pairwise_dice_loss(
    mask_logits: Float[Tensor, "*t q p"], true_masks: Float[Tensor, "*#t m p"]
) -> Float[Tensor, "*t q m"]:
    """Return 1 - dice of every query with every true mask."""
    mask_probs = mask_logits.sigmoid()
    overlap = 2 * (mask_probs @ true_masks.mT)
    return 1 - (overlap + 1) / (mask_probs.sum(-1, keepdim=True) + true_masks.sum(-1)[..., None, :] + 1)
