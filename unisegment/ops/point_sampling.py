# SPDX-License-Identifier: Apache-2.0
"""Values of maps and masks at points, without ever making a map that nobody looks at.

Points are (x, y) in [0, 1] over the whole (padded) image, so one set of points fits maps of any stride. Values between
pixel centres are interpolated bilinearly; outside the image everything is zero.

Axes: p point, n mask, i chosen segment, c channel.

Source:
    PointRend (arXiv:1912.08193), section 3; Mask2Former (arXiv:2112.01527), section 3.3.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unisegment.ops.piece_size import PieceSize
from unisegment.structures import SegmentationTarget
from unisegment.types import Size

MAX_POINTS = PieceSize(cpu=2**20, accelerator=2**23)
"""Points that are sampled in one go where masks have points of their own: a dozen numbers for each."""


def sample_map(features: Float[Tensor, "b c h w"], points: Float[Tensor, "b p 2"]) -> Float[Tensor, "b c p"]:
    """Return the values of each map at its points, in float32 or better."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    grid = 2 * points.to(features.dtype)[:, None] - 1  # b 1 p 2
    return F.grid_sample(features, grid, padding_mode="zeros", align_corners=False)[:, :, 0]


def sample_target(
    target: SegmentationTarget,
    points: Float[Tensor, "#i p 2"],
    segments: Int[Tensor, " i"] | None = None,
    max_points: int | None = None,
) -> Float[Tensor, "i p"]:
    """Return the masks of segments at points, as sampling their (h, w) float masks would.

    Four pixels around each point are looked up in the id maps, or in the bool masks: no float mask is ever made. The
    result is soft (0 to 1) at borders.

    Args:
        target: Its grid covers the image.
        points: One set of points for each segment, or one for all.
        segments: Index of each segment, repeats allowed; None takes all segments in order.
        max_points: Points to sample in one go; None takes what suits the device.
    """
    chosen = torch.arange(len(target), device=points.device) if segments is None else segments
    sampled = torch.empty(len(chosen), points.shape[1], dtype=points.dtype, device=points.device)
    size = _rows_at_a_time(points.shape[1], points.device, max_points)
    for first in range(0, len(chosen), size):
        rows = slice(first, first + size)
        sampled[rows] = _sample_segments(target, chosen[rows], points[rows] if len(points) == len(chosen) else points)
    return sampled


def _sample_segments(
    target: SegmentationTarget, segments: Int[Tensor, " i"], points: Float[Tensor, "#i p 2"]
) -> Float[Tensor, "i p"]:
    height, width = target.size
    grid = target.masks if target.id_map is None else target.id_map
    assert grid is not None
    flat, planes = grid.flatten(), segments if target.layers is None else target.layers[segments]
    starts = 0 if grid.ndim == 2 else (planes * (height * width))[:, None]
    if target.segment_ids is None:
        return _interpolate(lambda pixels: _take(flat, starts + pixels), points, target.size)
    ids = target.segment_ids.to(grid.dtype)[segments, None]
    return _interpolate(lambda pixels: _take(flat, starts + pixels) == ids, points, target.size)


def _take(flat: Tensor, pixels: Int[Tensor, "i p"]) -> Tensor:
    """Return `flat[pixels]`, which takes three times as long on a CPU."""
    return flat.index_select(0, pixels.flatten()).view(pixels.shape)


def _rows_at_a_time(num_points: int, device: torch.device, max_points: int | None) -> int:
    """Return how many masks to sample in one go; a dozen numbers are held for each point while it is looked up."""
    return max(1, MAX_POINTS.on(device, max_points) // num_points)


def _interpolate(
    look_up: Callable[[Int[Tensor, "#i p"]], Tensor], points: Float[Tensor, "#i p 2"], size: Size
) -> Float[Tensor, "i p"]:
    columns, rows = _neighbours(points[..., 0], size[1]), _neighbours(points[..., 1], size[0])
    corners = [
        look_up(row * size[1] + column) * (weight_x * weight_y)
        for column, weight_x in columns
        for row, weight_y in rows
    ]
    return corners[0] + corners[1] + corners[2] + corners[3]


def _neighbours(places: Float[Tensor, "#i p"], num_pixels: int) -> list[tuple[Tensor, Tensor]]:
    """Return the pixels on both sides of each place along one axis, each with its weight: 0 outside of the image."""
    # Pixel centres lie at half coordinates, as everywhere with align_corners=False.
    places = places * num_pixels - 0.5
    first = places.floor()
    return [
        (pixels.clamp(0, num_pixels - 1).long(), weights * ((pixels >= 0) & (pixels < num_pixels)))
        for pixels, weights in ((first, first + 1 - places), (first + 1, places - first))
    ]


def uncertain_points(
    mask_logits: Float[Tensor, "n h w"],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
    generator: torch.Generator | None = None,
    max_points: int | None = None,
) -> Float[Tensor, "n p 2"]:
    """Draw points for each mask, most of them where the mask is least certain (logit nearest to 0).

    `oversample_ratio * num_points` points are drawn uniformly; of these the `importance_sample_ratio * num_points`
    least certain are kept, and fresh uniform points fill up to `num_points`. Certainty is that of the interpolated
    logit at the point itself.

    Args:
        mask_logits: One predicted mask each; no gradient flows.
        num_points: Points to return for each mask.
        oversample_ratio: At least 1.
        importance_sample_ratio: 0 to 1.
        generator: Source of the random numbers, on the device of the logits; None takes torch's own.
        max_points: Candidates to sample in one go; None takes what suits the device.
    """
    num_uncertain = int(importance_sample_ratio * num_points)
    num_candidates = int(num_points * oversample_ratio)
    with torch.no_grad():
        uncertain = [
            _most_uncertain(chunk, num_candidates, num_uncertain, generator)
            for chunk in mask_logits.split(_rows_at_a_time(num_candidates, mask_logits.device, max_points))
        ]
        uniform = _uniform_points(mask_logits, num_points - num_uncertain, generator)
    return torch.cat([torch.cat(uncertain), uniform], dim=1)


def _most_uncertain(
    mask_logits: Float[Tensor, "n h w"], num_candidates: int, num_uncertain: int, generator: torch.Generator | None
) -> Float[Tensor, "n p 2"]:
    candidates = _uniform_points(mask_logits, num_candidates, generator)
    certainty = sample_map(mask_logits[:, None], candidates)[:, 0].abs()
    chosen = certainty.topk(num_uncertain, dim=1, largest=False, sorted=False).indices
    return candidates.gather(1, chosen[..., None].expand(-1, -1, 2))


def _uniform_points(
    mask_logits: Float[Tensor, "n h w"], num_points: int, generator: torch.Generator | None
) -> Float[Tensor, "n p 2"]:
    return torch.rand(len(mask_logits), num_points, 2, generator=generator, device=mask_logits.device)
