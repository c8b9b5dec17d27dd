# SPDX-License-Identifier: Apache-2.0
"""The training loss: match, then class, mask and dice terms for every prediction of the decoder.

Axes: t prediction (decoder layer), b batch, q query, k class, c channel, n target segment, i matched pair, p point.

Source:
    Mask2Former (arXiv:2112.01527), section 3.3 and 4, and its released code.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unisegment.losses.base import term_names
from unisegment.losses.chunked_mask_loss import MaskRules, matched_mask_losses
from unisegment.losses.matcher import HungarianMatcher, Matches
from unisegment.ops.distributed import mean_over_processes
from unisegment.ops.segment_maps import join_targets
from unisegment.ops.transfers import send
from unisegment.structures import SegmentationTarget

LossNormalization = Literal["global", "rank"]


def loss_denominators(num_targets: Sequence[int], num_queries: int, no_object_weight: float) -> Float[Tensor, "2"]:
    """Return what the mask terms and the class term of a batch are divided by, before any is forwarded.

    Add those of all micro-batches and processes of one optimiser step, divide by the number of processes, and pass the
    result to the model: the step then equals one process with the whole batch.

    Args:
        num_targets: Segments of each image.
        num_queries: Queries of the model.
        no_object_weight: Class weight of queries without a segment.
    """
    matched = sum(min(count, num_queries) for count in num_targets)
    unmatched = len(num_targets) * num_queries - matched
    return torch.tensor([float(sum(num_targets)), matched + no_object_weight * unmatched])


class SetCriterion(nn.Module):
    """Score all predictions of all decoder layers against the targets in one go.

    Args:
        matcher: Pairs queries with segments.
        no_object_weight: Class weight of queries that answer for nothing.
        class_weight: Weight of the class term.
        mask_weight: Weight of the mask (cross-entropy) term.
        dice_weight: Weight of the dice term.
        num_points: Points at which the losses of each mask are taken.
        oversample_ratio: Candidates drawn for each uncertain point, see `uncertain_points`.
        importance_sample_ratio: Share of points where the prediction is uncertain.
        normalization: "global" divides by sums over all processes, which equals one process with the whole batch;
            "rank" divides the class term by the process's own sum, as the original does.
        max_elements: Mask logits to hold at a time, which bounds the memory; the loss stays the same but for the points
            that are drawn. None takes what suits the device: 2^22 on a CPU, 2^25 on a GPU. It is an attribute, too:
            `model.criterion.max_elements = 2**22` for a small GPU.
    """

    def __init__(
        self,
        matcher: HungarianMatcher,
        *,
        no_object_weight: float,
        class_weight: float,
        mask_weight: float,
        dice_weight: float,
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
        normalization: LossNormalization = "global",
        max_elements: int | None = None,
    ) -> None:
        super().__init__()
        self.matcher = matcher
        self.no_object_weight = no_object_weight
        self.class_weight, self.mask_weight, self.dice_weight = class_weight, mask_weight, dice_weight
        self.num_points = num_points
        self.oversample_ratio, self.importance_sample_ratio = oversample_ratio, importance_sample_ratio
        self.normalization = normalization
        self.max_elements = max_elements

    def forward(
        self,
        class_logits: Float[Tensor, "t b q k"],
        mask_embeddings: Float[Tensor, "t b q c"],
        mask_features: Float[Tensor, "b c h w"] | Sequence[Float[Tensor, "b c h w"]],
        targets: Sequence[SegmentationTarget],
        denominators: Float[Tensor, "2"] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Return the loss and the weighted terms that it is the sum of.

        Learn from the loss rather than from a sum of terms: these may be weighted, and a GPU is waited for to see.

        Args:
            class_logits: Predictions to score, the final one last.
            mask_embeddings: A mask is their dot product with the mask features.
            mask_features: Embedding of each pixel: one map for all predictions, or a sequence of one for each.
            targets: One for each image, on the padded image's grid.
            denominators: See `loss_denominators`; None takes this batch's own.

        Returns:
            The loss; and `loss_cross_entropy`, `loss_mask` and `loss_dice` of the final prediction, and the same with
            `_0`, `_1`, … for those before it.

        Raises:
            NonFiniteLoss: When predictions are not finite, and cannot be matched.
            ValueError: When there are neither one nor as many maps as predictions.
        """
        maps = [mask_features] if isinstance(mask_features, Tensor) else mask_features
        if len(maps) not in (1, t := len(class_logits)):
            raise ValueError(f"mask_features must be one map, or one for each of the {t} predictions, got {len(maps)}.")
        segments = join_targets(targets, class_logits.device)
        matches = self.matcher(class_logits, mask_embeddings, maps, segments, self.max_elements)
        num_masks, class_weights = self._denominators(denominators, targets, class_logits)
        with torch.autocast(class_logits.device.type, enabled=False):
            class_loss = self._class_loss(class_logits, segments.labels, matches) / class_weights
            mask_losses = matched_mask_losses(
                mask_embeddings, maps, segments, matches, self._mask_rules(), self.draw_seed()
            )
        class_terms = self.class_weight * class_loss
        to_sum, single = (
            torch.stack([class_terms, *(losses / num_masks)], dim=1).roll(1, 0).flatten() for losses in mask_losses
        )
        return to_sum.sum(), {name: single[place] for place, name in enumerate(term_names(len(class_logits)))}

    def draw_seed(self) -> int | None:
        """Return a seed of the points where masks are compared; from the CPU, so that no accelerator has to stop."""
        return int(torch.randint(2**63 - 1, (), device="cpu"))

    def _mask_rules(self) -> MaskRules:
        ratios = self.oversample_ratio, self.importance_sample_ratio
        return MaskRules(self.mask_weight, self.dice_weight, self.num_points, *ratios, self.max_elements)

    def _denominators(
        self, given: Float[Tensor, "2"] | None, targets: Sequence[SegmentationTarget], like: Float[Tensor, "t b q k"]
    ) -> tuple[Tensor, Tensor]:
        if given is not None:
            num_masks, class_weights = send(given, like.device).clamp(min=1e-6)
            return num_masks, class_weights
        own = loss_denominators([len(target) for target in targets], like.shape[2], self.no_object_weight)
        own = send(own, like.device)
        shared = mean_over_processes(own)
        class_weights = own[1] if self.normalization == "rank" else shared[1]
        return shared[0].clamp(min=1), class_weights.clamp(min=1e-6)

    def _class_loss(
        self, class_logits: Float[Tensor, "t b q k"], true_labels: Int[Tensor, " n"], matches: Matches
    ) -> Float[Tensor, " t"]:
        """Return the weighted sum of cross-entropies of each prediction."""
        no_object = class_logits.shape[-1] - 1
        labels = torch.full((class_logits[..., 0].numel(),), no_object, device=class_logits.device)
        labels.index_copy_(0, matches.queries, true_labels[matches.segments])
        weights = torch.ones(no_object + 1, device=class_logits.device)
        weights[no_object:].fill_(self.no_object_weight)  # a number that is assigned is sent to a GPU
        logits = class_logits.to(torch.promote_types(class_logits.dtype, torch.float32)).flatten(0, 2)
        losses = F.cross_entropy(logits, labels, weights.to(logits.dtype), reduction="none")
        return losses.unflatten(0, class_logits.shape[:3]).sum((1, 2))
