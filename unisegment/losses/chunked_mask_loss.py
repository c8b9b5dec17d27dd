# SPDX-License-Identifier: Apache-2.0
"""Matched pairs in, the summed losses of their masks out; only a few of the masks exist at a time.

The gradient of the sum of all losses is found in the same pass, and added up chunk by chunk in place: the backward pass
has only to scale it. When losses count differently than in their sum, the backward pass goes through all masks again,
at the same points. Either way, what is held does not grow with the number of pairs. Losses are given out twice, to be
summed and to be used one by one: so whoever takes the sum is known without a look at values, which waits for a GPU.

Axes: t prediction (decoder layer), b image, q query, c channel, i matched pair, r pair of a chunk, s pixel. Maps of
mask features are one for all predictions, or one for each.

Source:
    Mask2Former (arXiv:2112.01527), section 3.3, for the losses; the order of computation is our own.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from unisegment.losses.mask_losses import ELEMENTS_PER_POINT, MAX_ELEMENTS, dice_loss, sigmoid_cross_entropy_loss
from unisegment.losses.matcher import Matches
from unisegment.ops.point_sampling import sample_map, sample_segments, uncertain_points
from unisegment.ops.segment_maps import SegmentMaps


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
    segments: SegmentMaps,
    matches: Matches,
    rules: MaskRules,
    seed: int | None,
) -> MaskLosses:
    """Return the losses of each prediction's matched masks.

    Args:
        mask_embeddings: A mask is their dot product with the mask features.
        mask_features: Embedding of each pixel: one map for all predictions, or one for each.
        segments: Those of each image, on the padded image's grid.
        matches: Which query answers for which segment.
        rules: How the losses of masks are taken.
        seed: Seed of the points, which may have to be drawn twice. None is for tensors without contents: they have
            no generator, and are not compared.
    """
    pairs = _Pairs(segments, matches, tuple(mask_embeddings.shape[:3]), rules, seed)
    matched = mask_embeddings.flatten(0, 2).index_select(0, matches.queries)
    return MaskLosses(*_ChunkedMaskLosses.apply(pairs, *mask_features, matched))


class _ChunkedMaskLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pairs: "_Pairs", *values: Tensor) -> tuple[Tensor, Tensor]:
        ctx.pairs = pairs
        ctx.set_materialize_grads(False)  # None tells which of the two results was used
        ctx.save_for_backward(*values)
        weights = torch.ones(2, pairs.shape[0], device=values[-1].device)
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


class _Piece(NamedTuple):
    """Some pairs of one image and one map, and which they are of the chunk."""

    map: int
    image: int
    rows: slice
    of_chunk: slice


class _Pairs(NamedTuple):
    """All that decides about the losses without learning; `shape` is (t b q)."""

    segments: SegmentMaps
    matches: Matches
    shape: tuple[int, ...]
    rules: MaskRules
    seed: int | None

    def losses(
        self, values: Sequence[Tensor], weights: Float[Tensor, "2 t"] | None
    ) -> tuple[Float[Tensor, "2 t"], list[Tensor]]:
        """Return the losses and, of their sum with these weights, the gradients.

        Args:
            values: The maps of mask features (b c h w), and the embeddings of all pairs (r c).
            weights: How much each loss counts; None makes no gradients.
        """
        *maps, matched = values
        device, dtype = matched.device, torch.promote_types(maps[0].dtype, torch.float32)
        # In the layout of the values: maps whose channels come last want gradients of that kind.
        learning = () if weights is None else values
        gradients = [torch.zeros_like(value, dtype=dtype, device=device) for value in learning]
        losses = torch.zeros(2, math.prod(self.shape), dtype=dtype, device=device)  # of all queries
        embeddings, queries = matched.to(dtype), self.matches.queries
        counts = None if weights is None else weights.to(dtype)[:, queries // math.prod(self.shape[1:])]
        generator = None if self.seed is None else torch.Generator(device).manual_seed(self.seed)

        @lru_cache(maxsize=1)  # in half precision, pieces of one map that follow each other share a copy
        def pixels(piece_map: int, image: int) -> Float[Tensor, "c s"]:
            return maps[piece_map][image].to(dtype).flatten(1)

        with torch.autocast(device.type, enabled=False):  # a backward pass may be called inside of one
            for pieces in self._chunks(maps):
                rows = slice(pieces[0].rows.start, pieces[-1].rows.stop)
                mask_logits = torch.empty(rows.stop - rows.start, *maps[0].shape[2:], dtype=dtype, device=device)
                for piece in pieces:
                    place = mask_logits[piece.of_chunk].flatten(1)
                    torch.mm(embeddings[piece.rows], pixels(piece.map, piece.image), out=place)
                found, grad = self._losses_of_chunk(mask_logits, pieces, generator, counts)
                losses.index_copy_(1, queries[rows], found)
                del mask_logits, place
                for piece in pieces if gradients else ():
                    part = grad[piece.of_chunk].flatten(1)
                    torch.mm(part, pixels(piece.map, piece.image).T, out=gradients[-1][piece.rows])
                    if maps[piece.map].requires_grad:
                        of_map = gradients[piece.map][piece.image].view(maps[0].shape[1], -1)
                        of_map.addmm_(embeddings[piece.rows].T, part)
                    del part
                del grad  # before the next chunk's masks are made
        return losses.unflatten(1, (self.shape[0], -1)).sum(2), gradients

    def _chunks(self, maps: Sequence[Tensor]) -> Iterator[list[_Piece]]:
        """Give the pieces of each chunk: as many as may be held at a time, in the order of pairs."""
        elements = MAX_ELEMENTS.on(maps[0].device, self.rules.max_elements)
        size = max(1, elements // max(maps[0][0, 0].numel(), self.rules.num_points))
        begin = 0
        pieces: list[_Piece] = []
        for image, count in enumerate(self.matches.counts):
            of_map = count * self.shape[0] // len(maps)
            for place in range(len(maps)):
                end = begin + of_map
                for first in range(begin, end, size):
                    last = min(first + size, end)
                    if pieces and last - pieces[0].rows.start > size:
                        yield pieces
                        pieces = []
                    start = pieces[0].rows.start if pieces else first
                    pieces.append(_Piece(place, image, slice(first, last), slice(first - start, last - start)))
                begin = end
        if pieces:
            yield pieces

    def _losses_of_chunk(
        self,
        mask_logits: Float[Tensor, "r h w"],
        pieces: Sequence[_Piece],
        generator: torch.Generator | None,
        counts: Float[Tensor, "2 i"] | None,
    ) -> tuple[Float[Tensor, "2 r"], Float[Tensor, "*r_h_w"]]:
        """Return cross-entropy and dice of each mask, and the gradient of the logits: nothing without counts."""
        rules, learns = self.rules, counts is not None
        rows = slice(pieces[0].rows.start, pieces[-1].rows.stop)
        segments, runs = self.matches.segments[rows], [piece.rows.stop - piece.rows.start for piece in pieces]
        max_points = None if rules.max_elements is None else max(1, rules.max_elements // ELEMENTS_PER_POINT)
        ratios = rules.oversample_ratio, rules.importance_sample_ratio
        points = uncertain_points(mask_logits, rules.num_points, *ratios, generator, max_points, runs)
        true_masks = sample_segments(self.segments, points, segments, max_points).to(mask_logits.dtype)
        with torch.set_grad_enabled(learns):
            sampled = sample_map(mask_logits.requires_grad_(learns)[:, None], points)[:, 0]
            cross_entropy = rules.mask_weight * sigmoid_cross_entropy_loss(sampled, true_masks)
            losses = torch.stack([cross_entropy, rules.dice_weight * dice_loss(sampled, true_masks)])
        if counts is None:
            return losses, torch.empty(0)
        (grad,) = torch.autograd.grad(losses, mask_logits, counts[:, rows])
        return losses.detach(), grad
