# SPDX-License-Identifier: Apache-2.0
"""Which query answers for which target segment: the assignment of least total cost, for all predictions at once.

Axes: t prediction (decoder layer), m map of mask features, q query, k class, n target segment, c channel, p point,
r query of some prediction.

Source:
    DETR (arXiv:2005.12872), section 3.1; costs of Mask2Former (arXiv:2112.01527), section 3.3.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from unisegment.losses.base import NonFiniteLoss, term_names
from unisegment.losses.mask_losses import (
    ELEMENTS_PER_POINT,
    MAX_ELEMENTS,
    pairwise_dice_loss,
    pairwise_sigmoid_cross_entropy_loss,
)
from unisegment.ops.point_sampling import sample_map, sample_target
from unisegment.ops.transfers import send
from unisegment.structures import SegmentationTarget


class Matches(NamedTuple):
    """The pairs of one image; pair i of prediction t is (`queries[t, i]`, `segments[t, i]`).

    There are min(number of queries, number of segments) pairs: surplus segments stay unmatched.
    """

    queries: Int[Tensor, "t i"]
    segments: Int[Tensor, "t i"]


class HungarianMatcher(nn.Module):
    """Match queries with target segments by class probability, cross-entropy and dice at random points.

    All predictions of an image are compared at the same points; each still sees points drawn uniformly.

    Args:
        class_weight: Weight of the class cost, minus the probability of the segment's class.
        mask_weight: Weight of the binary cross-entropy.
        dice_weight: Weight of the dice loss.
        num_points: Points drawn for each image.
    """

    def __init__(self, class_weight: float, mask_weight: float, dice_weight: float, num_points: int) -> None:
        super().__init__()
        self.class_weight, self.mask_weight, self.dice_weight = class_weight, mask_weight, dice_weight
        self.num_points = num_points

    @torch.no_grad()
    def forward(
        self,
        class_logits: Float[Tensor, "t b q k"],
        mask_embeddings: Float[Tensor, "t b q c"],
        mask_features: Sequence[Float[Tensor, "b c h w"]],
        targets: Sequence[SegmentationTarget],
        max_elements: int | None = None,
    ) -> list[Matches]:
        """Return the pairs of each image, on the device of the logits.

        Args:
            class_logits: The last class is "no object".
            mask_embeddings: A mask is their dot product with the mask features.
            mask_features: Embedding of each pixel: one map for all predictions, or one for each.
            targets: One for each image, on the padded image's grid.
            max_elements: Mask logits to hold at a time, see `SetCriterion`.

        Raises:
            NonFiniteLoss: When a cost is NaN or infinite.
        """
        costs = [
            self.cost(
                class_logits[:, i], mask_embeddings[:, i], [one[i] for one in mask_features], target, max_elements
            )
            for i, target in enumerate(targets)
        ]
        # One transfer there, which is waited for, and one back, which is not; the sizes of the blocks are known here.
        columns = torch.cat(costs, dim=2).cpu().numpy()
        blocks = np.split(columns, np.cumsum([len(target) for target in targets])[:-1], axis=2)
        for image, block in enumerate(blocks):
            if not np.isfinite(block).all():
                raise _non_finite_loss(block, image, class_logits, mask_embeddings, mask_features)
        pairs = [_assign(block) for block in blocks]
        on_device = send(torch.from_numpy(np.concatenate(pairs, axis=2)), class_logits.device)
        return [Matches(*part.unbind(1)) for part in on_device.split([part.shape[2] for part in pairs], dim=2)]

    def cost(
        self,
        class_logits: Float[Tensor, "t q k"],
        mask_embeddings: Float[Tensor, "t q c"],
        mask_features: Sequence[Float[Tensor, "c h w"]],
        target: SegmentationTarget,
        max_elements: int | None = None,
    ) -> Float[Tensor, "t q n"]:
        """Return what it would cost to match each query with each segment of one image, in float32."""
        elements = MAX_ELEMENTS.on(class_logits.device, max_elements)
        with torch.autocast(class_logits.device.type, enabled=False):
            points = torch.rand(1, self.num_points, 2, device=class_logits.device)
            # Sampling commutes with the dot product: no mask is made for queries that will not be matched.
            sampled = (sample_map(one[None], points)[0] for one in mask_features)  # m of c p, one at a time
            dtype = torch.promote_types(mask_features[0].dtype, torch.float32)
            max_points = max(1, elements // ELEMENTS_PER_POINT)
            true_masks = sample_target(target, points, max_points=max_points).to(dtype)
            mask_costs = [
                self._mask_cost(embeddings.to(dtype) @ features, true_masks)
                for features, of_map in zip(
                    sampled, mask_embeddings.unflatten(0, (len(mask_features), -1)), strict=True
                )
                for embeddings in of_map.flatten(0, 1).split(max(1, elements // self.num_points))
            ]  # (t q) n, some rows each
            class_probs = class_logits.to(dtype).softmax(-1)[..., target.labels]
            return torch.cat(mask_costs).view_as(class_probs).sub_(class_probs, alpha=self.class_weight)

    def _mask_cost(self, mask_logits: Float[Tensor, "r p"], true_masks: Float[Tensor, "n p"]) -> Float[Tensor, "r n"]:
        cross_entropy = pairwise_sigmoid_cross_entropy_loss(mask_logits, true_masks)
        return self.mask_weight * cross_entropy + self.dice_weight * pairwise_dice_loss(mask_logits, true_masks)


def _assign(costs: Float[np.ndarray, "t q n"]) -> Int64[np.ndarray, "t 2 i"]:
    """Return the queries and the segments of the pairs."""
    return np.array([linear_sum_assignment(cost) for cost in costs], dtype=np.int64)


def _non_finite_loss(
    costs: Float[np.ndarray, "t q n"],
    image: int,
    class_logits: Float[Tensor, "t b q k"],
    mask_embeddings: Float[Tensor, "t b q c"],
    mask_features: Sequence[Float[Tensor, "b c h w"]],
) -> NonFiniteLoss:
    """Return the error that says where costs are not finite."""
    bad = ~np.isfinite(costs)
    of_image = {
        "class logits": [class_logits[:, image]],
        "mask embeddings": [mask_embeddings[:, image]],
        "mask features": [one[image] for one in mask_features],
    }
    culprits = [name for name, parts in of_image.items() if not all(bool(part.isfinite().all()) for part in parts)]
    message = (
        f"{bad.sum()} of {bad.size} matching costs of image {image} of the batch are NaN or infinite, first "
        f"in prediction {int(np.argwhere(bad)[0, 0])}. Not finite: {', '.join(culprits) or 'only their products'}. "
        "The network has diverged, or its weights are broken: lower the learning rate, clip gradients (the reference "
        "clips the global norm to 0.01), or train in bfloat16 instead of float16."
    )
    touching = [class_logits, mask_embeddings, *mask_features]
    return NonFiniteLoss(message, touching=touching, terms=term_names(len(class_logits)))
