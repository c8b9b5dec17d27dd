# SPDX-License-Identifier: Apache-2.0
"""Which query answers for which target segment: the assignment of least total cost, for all predictions at once.

Axes: t prediction (decoder layer), m map of mask features, q query, k class, n target segment, c channel, p point,
r query of some prediction.

Source:
    DETR (arXiv:2005.12872), section 3.1; costs of Mask2Former (arXiv:2112.01527), section 3.3.
"""

from collections.abc import Iterator, Sequence
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
from unisegment.ops.point_sampling import sample_map, sample_segments
from unisegment.ops.segment_maps import SegmentMaps
from unisegment.ops.transfers import send


class Matches(NamedTuple):
    """The pairs of a batch: image by image, and of each image prediction by prediction.

    There are min(number of queries, number of segments) pairs; surplus segments stay unmatched.

    Args:
        queries: Place of each pair's query among those of all predictions and images (t b q).
        segments: Place of its segment among those of all images.
        counts: Pairs of each image in one prediction.
    """

    queries: Int[Tensor, " i"]
    segments: Int[Tensor, " i"]
    counts: list[int]


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
        segments: SegmentMaps,
        max_elements: int | None = None,
    ) -> Matches:
        """Return the pairs of all images, on the device of the logits.

        Args:
            class_logits: The last class is "no object".
            mask_embeddings: A mask is their dot product with the mask features.
            mask_features: Embedding of each pixel: one map for all predictions, or one for each.
            segments: Those of each image, on the padded image's grid.
            max_elements: Mask logits to hold at a time, see `SetCriterion`.

        Raises:
            NonFiniteLoss: When a cost is NaN or infinite.
        """
        blocks = self.costs(class_logits, mask_embeddings, mask_features, segments, max_elements)
        for image, block in enumerate(blocks):
            if not np.isfinite(block).all():
                raise _non_finite_loss(block, image, class_logits, mask_embeddings, mask_features)
        pairs = [
            _assign(block, image, len(blocks)) + np.array([[0], [start]])
            for image, (block, start) in enumerate(zip(blocks, segments.starts, strict=False))
        ]
        queries, chosen = send(torch.from_numpy(np.concatenate(pairs, axis=1)), class_logits.device)
        return Matches(queries, chosen, [min(class_logits.shape[2], count) for count in segments.counts])

    def costs(
        self,
        class_logits: Float[Tensor, "t b q k"],
        mask_embeddings: Float[Tensor, "t b q c"],
        mask_features: Sequence[Float[Tensor, "b c h w"]],
        segments: SegmentMaps,
        max_elements: int | None = None,
    ) -> list[Float[np.ndarray, "t q n"]]:
        """Return what it would cost to match each query with each segment of its image, in float32 or better."""
        device, dtype = class_logits.device, torch.promote_types(mask_features[0].dtype, torch.float32)
        num_predictions, batch_size, num_queries, dim = mask_embeddings.shape
        elements = MAX_ELEMENTS.on(device, max_elements)
        most_rows = max(1, elements // self.num_points)
        max_points = None if max_elements is None else max(1, max_elements // ELEMENTS_PER_POINT)
        with torch.autocast(device.type, enabled=False):
            points = torch.rand(batch_size, self.num_points, 2, device=device)
            class_probs = class_logits.to(dtype).softmax(-1).transpose(0, 1)  # b t q k
            embeddings = mask_embeddings.to(dtype).unflatten(0, (len(mask_features), -1)).transpose(1, 2)
            embeddings = embeddings.flatten(2, 3)  # m b (t q) c
            parts = []
            for images in _parts(segments.counts, max(num_predictions * num_queries, dim), most_rows):
                places = segments.of_images(images)  # g n
                true_masks = sample_segments(segments, points[images, None], places, max_points).to(dtype)
                # Sampling commutes with the dot product: no mask is made for queries that will not be matched. Maps are
                # sampled one at a time, g c p.
                sampled = (sample_map(one[images], points[images]) for one in mask_features)
                costs = [
                    self._mask_cost(rows @ features, true_masks)
                    for features, of_map in zip(sampled, embeddings[:, images], strict=True)
                    for rows in of_map.split(max(1, most_rows // len(places)), dim=1)
                ]  # g (t q) n, some rows each
                labels = segments.labels[places][:, None, None].expand(-1, num_predictions, num_queries, -1)
                cost = torch.cat(costs, dim=1).view(labels.shape)
                parts.append(cost.sub_(class_probs[images].gather(3, labels), alpha=self.class_weight))
        # One transfer, which is waited for, with all that was queued before: `targets` have arrived, too.
        values = torch.cat([part.flatten() for part in parts]).cpu().numpy()
        ends = np.cumsum([part.numel() for part in parts])[:-1]
        blocks = [
            block
            for flat, part in zip(np.split(values, ends), parts, strict=True)
            for block in flat.reshape(part.shape)
        ]
        return [block[..., :count] for block, count in zip(blocks, segments.counts, strict=True)]

    def _mask_cost(
        self, mask_logits: Float[Tensor, "g r p"], true_masks: Float[Tensor, "g n p"]
    ) -> Float[Tensor, "g r n"]:
        cross_entropy = pairwise_sigmoid_cross_entropy_loss(mask_logits, true_masks)
        return self.mask_weight * cross_entropy + self.dice_weight * pairwise_dice_loss(mask_logits, true_masks)


def _parts(counts: Sequence[int], rows: int, most_rows: int) -> Iterator[slice]:
    """Give runs of images of which all rows, as many for each, are held at a time; at least one image.

    Args:
        counts: Segments of each image.
        rows: Rows of each image, if it does not have more segments.
        most_rows: Rows to hold.
    """
    begin = 0
    for end in range(1, len(counts) + 1):
        if end == len(counts) or (end + 1 - begin) * max(rows, *counts[begin : end + 1]) > most_rows:
            yield slice(begin, end)
            begin = end


def _assign(costs: Float[np.ndarray, "t q n"], image: int, batch_size: int) -> Int64[np.ndarray, "2 i"]:
    """Return the pairs of an image: places of queries among those of all predictions and images, and segments."""
    pairs = np.array([linear_sum_assignment(cost) for cost in costs], dtype=np.int64)  # t 2 i
    pairs[:, 0] += (np.arange(len(costs))[:, None] * batch_size + image) * costs.shape[1]
    return pairs.swapaxes(0, 1).reshape(2, -1)


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
