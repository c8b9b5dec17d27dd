# SPDX-License-Identifier: Apache-2.0
"""Matched pairs in, the summed losses of their masks out; only a few of the masks exist at a time.

The gradient of the sum of all losses is found in the same pass, and added up chunk by chunk in place: the backward pass
has only to scale it. When losses count differently than in their sum, the backward pass goes through all masks again,
at the same points. Either way, what is held does not grow with the number of pairs. Losses are given out twice, to be
summed and to be used one by one: so whoever takes the sum is known without a look at values, which waits for a GPU.

Axes: t prediction (decoder layer), b image, q query, c channel, i matched pair of an image, r pair of a chunk. Maps of
mask features are one for all predictions, or one for each.

Source:
    Mask2Former (arXiv:2112.01527), section 3.3, for the losses; the order of computation is our own.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from unisegment.losses.mask_losses import ELEMENTS_PER_POINT, MAX_ELEMENTS, dice_loss, sigmoid_cross_entropy_loss
from unisegment.losses.matcher import Matches
from unisegment.ops.point_sampling import sample_map, sample_target, uncertain_points
from unisegment.structures import SegmentationTarget


class MaskLosses(NamedTuple):
    """Weighted sums of cross-entropy and dice of each prediction's matched masks, in float32 or better.

    Args:
        to_sum: For a loss in which all of them count alike. They must: with other weights, the gradient is wrong.
        single: The same numbers, for any use.
    """

    to_sum: Float[Tensor, "2 t"]
    single: Float[Tensor, "2 t"]


class MaskRules(NamedTuple):
    """How the losses of masks are taken: weights of cross-entropy and dice, and the points (see `uncertain_points`).

    `max_elements` is how many mask logits to hold at a time, see `SetCriterion`.
    """

    mask_weight: float
    dice_weight: float
    num_points: int
    oversample_ratio: float
    importance_sample_ratio: float
    max_elements: int | None = None


def matched_mask_losses(
    mask_embeddings: Float[Tensor, "t b q c"],
    mask_features: Sequence[Float[Tensor, "b c h w"]],
    targets: Sequence[SegmentationTarget],
    matches: Sequence[Matches],
    rules: MaskRules,
    seed: int | None,
) -> MaskLosses:
    """Return the losses of each prediction's matched masks.

    Args:
        mask_embeddings: A mask is their dot product with the mask features.
        mask_features: Embedding of each pixel: one map for all predictions, or one for each.
        targets: One for each image, on the padded image's grid.
        matches: Which query answers for which segment, for each image.
        rules: How the losses of masks are taken.
        seed: Seed of the points, which may have to be drawn twice. None is for tensors without contents: they have
            no generator, and are not compared.
    """
    matched = [
        embeddings.gather(1, match.queries[..., None].expand(-1, -1, embeddings.shape[2]))  # t i c
        for embeddings, match in zip(mask_embeddings.unbind(1), matches, strict=True)
    ]
    pairs = _Pairs(targets, [match.segments for match in matches], rules, seed)
    return MaskLosses(*_ChunkedMaskLosses.apply(pairs, *mask_features, *matched))


class _ChunkedMaskLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pairs: "_Pairs", *values: Tensor) -> tuple[Tensor, Tensor]:
        ctx.pairs = pairs
        ctx.set_materialize_grads(False)  # None tells which of the two results was used
        ctx.save_for_backward(*values)
        weights = torch.ones(2, len(values[-1]), device=values[-1].device)
        losses, ctx.gradients = pairs.losses(values, weights if any(ctx.needs_input_grad) else None)
        return losses, losses.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, in_sum: Tensor | None, singly: Tensor | None) -> tuple[Tensor | None, ...]:
        used = [part for part in (in_sum, singly) if part is not None]
        if not used:
            return (None,) * len(ctx.needs_input_grad)
        weights = torch.stack(used).sum(0)
        values = ctx.saved_tensors
        gradients, ctx.gradients = ctx.gradients, None  # scaled in place: they are good for once
        if gradients and (singly is None or ctx.pairs.seed is None or bool((weights == weights[0, 0]).all())):
            gradients = [gradient.mul_(weights[0, 0]) for gradient in gradients]
        else:
            gradients = ctx.pairs.losses(values, weights)[1]
        return None, *(gradient.to(value.dtype) for gradient, value in zip(gradients, values, strict=True))


class _Chunk(NamedTuple):
    """Some pairs of one image: which of its rows (t i) they are, what their masks are made of, how much they count."""

    image: int
    map: int
    rows: slice
    embeddings: Float[Tensor, "r c"]
    features: Float[Tensor, "c h w"]
    weights: Float[Tensor, "2 r"] | None


class _Pairs(NamedTuple):
    """All that decides about the losses without learning."""

    targets: Sequence[SegmentationTarget]
    segments: Sequence[Int[Tensor, "t i"]]
    rules: MaskRules
    seed: int | None

    def losses(
        self, values: Sequence[Tensor], weights: Float[Tensor, "2 t"] | None
    ) -> tuple[Float[Tensor, "2 t"], list[Tensor]]:
        """Return the losses and, of their sum with these weights, the gradients.

        Args:
            values: The maps of mask features (b c h w), and the embeddings of each image's pairs (t i c).
            weights: How much each loss counts; None makes no gradients.
        """
        maps, matched = values[: -len(self.targets)], values[-len(self.targets) :]
        device, dtype = maps[0].device, torch.promote_types(maps[0].dtype, torch.float32)
        losses = [torch.empty(2, *one.shape[:2], dtype=dtype, device=device) for one in matched]  # 2 t i
        learning = () if weights is None else values
        # In the layout of the values: maps whose channels come last want gradients of that kind.
        gradients = [torch.zeros_like(value, dtype=dtype, device=device) for value in learning]
        generator = None if self.seed is None else torch.Generator(device).manual_seed(self.seed)
        with torch.autocast(device.type, enabled=False):  # a backward pass may be called inside of one
            for chunk in self._chunks(maps, matched, weights):
                found, grad = self._losses_of_chunk(chunk, generator)
                losses[chunk.image].flatten(1)[:, chunk.rows] = found
                if grad is not None:
                    gradients[len(maps) + chunk.image].flatten(0, 1)[chunk.rows] = grad @ chunk.features.flatten(1).T
                    if maps[chunk.map].requires_grad:
                        pixels = gradients[chunk.map][chunk.image].view(chunk.embeddings.shape[1], -1)
                        pixels.addmm_(chunk.embeddings.T, grad)
                del grad  # before the next chunk's masks are made
        return torch.stack([one.sum(2) for one in losses]).sum(0), gradients

    def _chunks(
        self, maps: Sequence[Tensor], matched: Sequence[Tensor], weights: Float[Tensor, "2 t"] | None
    ) -> Iterator[_Chunk]:
        dtype = torch.promote_types(maps[0].dtype, torch.float32)
        elements = MAX_ELEMENTS.on(maps[0].device, self.rules.max_elements)
        size = max(1, elements // max(maps[0][0, 0].numel(), self.rules.num_points))
        for image, embeddings in enumerate(matched):
            rows = embeddings.to(dtype).flatten(0, 1)
            counts = None if weights is None else weights.to(dtype).repeat_interleave(embeddings.shape[1], dim=1)
            of_map = len(rows) // len(maps)
            for place, features in enumerate(one[image].to(dtype) for one in maps):
                for first in range(place * of_map, (place + 1) * of_map, size):
                    part = slice(first, min(first + size, (place + 1) * of_map))
                    yield _Chunk(image, place, part, rows[part], features, None if counts is None else counts[:, part])

    def _losses_of_chunk(
        self, chunk: _Chunk, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "2 r"], Float[Tensor, "r s"] | None]:
        """Return cross-entropy and dice of each mask, and the gradient of the logits."""
        rules, learns = self.rules, chunk.weights is not None
        max_points = max(1, MAX_ELEMENTS.on(chunk.features.device, rules.max_elements) // ELEMENTS_PER_POINT)
        mask_logits = (chunk.embeddings @ chunk.features.flatten(1)).unflatten(1, chunk.features.shape[1:])  # r h w
        points = uncertain_points(
            mask_logits, rules.num_points, rules.oversample_ratio, rules.importance_sample_ratio, generator, max_points
        )
        segments = self.segments[chunk.image].flatten()[chunk.rows]
        true_masks = sample_target(self.targets[chunk.image], points, segments, max_points).to(mask_logits.dtype)
        with torch.set_grad_enabled(learns):
            sampled = sample_map(mask_logits.requires_grad_(learns)[:, None], points)[:, 0]
            cross_entropy = rules.mask_weight * sigmoid_cross_entropy_loss(sampled, true_masks)
            losses = torch.stack([cross_entropy, rules.dice_weight * dice_loss(sampled, true_masks)])
        if not learns:
            return losses, None
        (grad,) = torch.autograd.grad(losses, mask_logits, chunk.weights)
        return losses.detach(), grad.flatten(1)
