# SPDX-License-Identifier: Apache-2.0
"""Where a token is, as an angle: queries and keys are turned by it, so that attention sees how far apart two are.

Axes: t token, s token with a place (the last ones), d channel of a head.

Source:
    RoFormer (arXiv:2104.09864), section 3.2; for images DINOv3 (arXiv:2508.10104), section 3.2.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Rotation(NamedTuple):
    """By how much each channel of each token is turned: channel i together with channel i + d / 2.

    Args:
        cos: Cosine of the angle.
        sin: Sine of the angle, negative in the first half of the channels.
    """

    cos: Float[Tensor, "s d"]
    sin: Float[Tensor, "s d"]


def rotate(x: Float[Tensor, "b m t d"], rotation: Rotation) -> Float[Tensor, "b m t d"]:
    """Turn the last tokens, as many as the rotation has; those before them have no place and stay as they are."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    still, placed = x.split([x.shape[2] - cos.shape[0], cos.shape[0]], dim=2)
    turned = torch.addcmul(placed * cos, placed.roll(placed.shape[-1] // 2, dims=-1), sin)
    return torch.cat([still, turned], dim=2)


class AxialRotaryEmbedding(nn.Module):
    """The rotation of each pixel of a grid: half of the angles tell its row, half its column.

    Rows and columns go from -1 to 1, whatever the size of the grid. In training the whole grid can be moved, stretched
    along its sides and scaled, each by a random amount that is new for every call and the same for all images.

    Args:
        head_dim: Channels d of a head, a multiple of 4.
        theta: The wave length of the slowest channel is almost this many times that of the fastest, which is 1.
        shift: Largest move, along each side by itself; None does not move.
        jitter: Largest factor of stretching, along each side by itself; None does not stretch.
        rescale: Largest factor of scaling; None does not scale.

    Source:
        DINOv3 (arXiv:2508.10104), section 3.2, and its released code.
    """

    def __init__(
        self,
        head_dim: int,
        theta: float = 100.0,
        shift: float | None = None,
        jitter: float | None = None,
        rescale: float | None = None,
    ) -> None:
        super().__init__()
        if head_dim % 4:
            raise ValueError(f"rotary embedding needs heads with a multiple of 4 channels, got {head_dim}.")
        self.head_dim, self.theta = head_dim, theta
        self.shift, self.jitter, self.rescale = shift, jitter, rescale

    def forward(self, height: int, width: int, device: torch.device | str | None = None) -> Rotation:
        """Return the rotation of each pixel of a grid, row-major, in float32.

        Args:
            height: Rows.
            width: Columns.
            device: Where to make it.
        """
        # Whole numbers first: of those an exported program knows how many there are.
        sides = [(torch.arange(length, device=device) + 0.5) / length * 2 - 1 for length in (height, width)]
        places = torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).flatten(0, 1)  # s 2
        if self.training:
            places = self._moved(places)
        quarter = self.head_dim // 4
        exponent = torch.arange(quarter, dtype=torch.float32, device=device) / quarter
        angles = (2 * math.pi * places[:, :, None] / self.theta**exponent).flatten(1)
        cos, sin = angles.cos(), angles.sin()
        return Rotation(torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1))

    def _moved(self, places: Float[Tensor, "s 2"]) -> Float[Tensor, "s 2"]:
        if self.shift is not None:
            places = places + places.new_empty(1, 2).uniform_(-self.shift, self.shift)
        for factor, sides in ((self.jitter, 2), (self.rescale, 1)):
            if factor is not None:
                largest = math.log(factor)
                places = places * places.new_empty(1, sides).uniform_(-largest, largest).exp()
        return places
