# SPDX-License-Identifier: Apache-2.0
"""Values of maps and masks at points, without ever making a map that nobody looks at.

Points are (x, y) in [0, 1] over the whole (padded) image, so one set of points fits maps of any stride. Values between
pixel centres are interpolated bilinearly; outside the image everything is zero.

Axes: p point, n mask, g image, i chosen segment, c channel.

Source:
    PointRend (arXiv:1912.08193), section 3; Mask2Former (arXiv:2112.01527), section 3.3.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unisegment.ops.piece_size import PieceSize
from unisegment.ops.segment_maps import SegmentMaps

MAX_POINTS = PieceSize(cpu=2**18, accelerator=2**23)
"""Points that are sampled in one go where masks have points of their own: a dozen numbers for each."""


def sample_map(features: Float[Tensor, "b c h w"], points: Float[Tensor, "b p 2"]) -> Float[Tensor, "b c p"]:
    """Return the values of each map at its points, in float32 or better."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    grid = points.to(features.dtype)[:, None].mul(2).sub_(1)  # b 1 p 2
    return F.grid_sample(features, grid, padding_mode="zeros", align_corners=False)[:, :, 0]


def sample_segments(
    maps: SegmentMaps,
    points: Float[Tensor, "*g #i p 2"],
    segments: Int[Tensor, "*g i"],
    max_points: int | None = None,
) -> Float[Tensor, "*g i p"]:
    """Return the masks of segments at points, as sampling their (h, w) float masks would.

    Four pixels around each point are looked up in the maps of numbers: no float mask is ever made. The result is soft
    (0 to 1) at borders.

    Args:
        maps: Each covers its image.
        points: One set of points for each segment, or one for all of an image.
        segments: Place of each segment among those of all images, repeats allowed. Those that share points must be of
            one image where `maps.is_plain`; what is not, is looked up in the map of the first.
        max_points: Points to sample in one go; None takes what suits the device.
    """
    num_points = points.shape[-2]
    sampled = torch.empty(*segments.shape, num_points, dtype=points.dtype, device=points.device)
    size = _rows_at_a_time(num_points * math.prod(segments.shape[:-1]), points.device, max_points)
    for first in range(0, segments.shape[-1], size):
        rows = slice(first, first + size)
        own = points if points.shape[-3] == 1 else points[..., rows, :, :]
        sampled[..., rows, :] = _sample_segments(maps, own, segments[..., rows])
    return sampled


def _sample_segments(
    maps: SegmentMaps, points: Float[Tensor, "*g #i p 2"], segments: Int[Tensor, "*g i"]
) -> Float[Tensor, "*g i p"]:
    height, width = maps.pixels.shape[1:]
    # Pixel centres lie at half coordinates, as everywhere with align_corners=False.
    columns, to_columns = _neighbours(points[..., 0] * width - 0.5, width)
    rows, to_rows = _neighbours(points[..., 1] * height - 0.5, height)
    # Segments that share points share the look-up, too, where they are in one map.
    is_shared = maps.is_plain and points.shape[-3] == 1
    planes = maps.planes[segments[..., :1] if is_shared else segments]
    # Corners, column by column, in front: 2 2 *g i p.
    pixels = rows * width + columns[:, None] + planes[..., None] * (height * width)
    ids = maps.ids.to(maps.pixels.dtype)[segments]
    # `flat[pixels]` takes three times as long on a CPU.
    is_inside = maps.pixels.flatten().index_select(0, pixels.flatten()).view(pixels.shape) == ids[..., None]
    return (is_inside * (to_columns[:, None] * to_rows)).flatten(0, 1).sum(0)


def _neighbours(places: Float[Tensor, "*g #i p"], num_pixels: int) -> tuple[Tensor, Tensor]:
    """Return the two pixels around each place along one axis, and their weights: 0 outside of the image.

    Both have an axis in front, of the two; or of one, where there is one pixel.
    """
    first = places.floor().clamp_(0, max(num_pixels - 2, 0))
    both = torch.stack([first, first + 1][:num_pixels])
    return both.long(), torch.minimum(both + 1 - places, places - (both - 1)).clamp_(min=0)


def _rows_at_a_time(num_points: int, device: torch.device, max_points: int | None) -> int:
    """Return how many masks to sample in one go; a dozen numbers are held for each point while it is looked up."""
    return max(1, MAX_POINTS.on(device, max_points) // max(num_points, 1))


def uncertain_points(
    mask_logits: Float[Tensor, "n h w"],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
    generator: torch.Generator | None = None,
    max_points: int | None = None,
    runs: Sequence[int] | None = None,
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
        runs: Lengths of runs of masks. On a CPU, points are those that a call for each run would draw; None is one run.
    """
    num_uncertain = int(importance_sample_ratio * num_points)
    num_candidates = int(num_points * oversample_ratio)
    device, num_masks = mask_logits.device, len(mask_logits)
    size = _rows_at_a_time(num_candidates, device, max_points)
    bounds = [0, *accumulate(runs)] if runs else [0, num_masks]
    uncertain, uniform = [torch.empty(0, num_uncertain, 2, device=device)], []
    with torch.no_grad():
        for first in range(0, num_masks, size):
            last, candidates = min(first + size, num_masks), []
            for begin, end in pairwise(bounds):
                if begin < last and first < end:
                    count = min(end, last) - max(begin, first)
                    candidates.append(torch.rand(count, num_candidates, 2, generator=generator, device=device))
                if first < end <= last:  # these follow the last candidates of a run
                    count = num_points - num_uncertain
                    uniform.append(torch.rand(end - begin, count, 2, generator=generator, device=device))
            uncertain.append(_most_uncertain(mask_logits[first:last], candidates, num_uncertain))
        uniform = uniform or [torch.empty(0, num_points - num_uncertain, 2, device=device)]
        return torch.cat([torch.cat(uncertain), torch.cat(uniform)], dim=1)


def _most_uncertain(
    mask_logits: Float[Tensor, "n h w"], candidates: Sequence[Float[Tensor, "_ p 2"]], num_uncertain: int
) -> Float[Tensor, "n i 2"]:
    points = candidates[0] if len(candidates) == 1 else torch.cat(list(candidates))
    certainty = sample_map(mask_logits[:, None], points)[:, 0].abs_()
    chosen = certainty.topk(num_uncertain, dim=1, largest=False, sorted=False).indices
    return points.gather(1, chosen[..., None].expand(-1, -1, 2))
