# SPDX-License-Identifier: Apache-2.0
"""Where a pixel is, as sines and cosines."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unisegment.ops.constants import cached_constant


@cached_constant
def sine_position_embedding(
    height: int, width: int, dim: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "s c"]:
    """Return the code of each of the s pixels of a grid, row-major.

    The first half of the channels codes y, the second half x. Rows and columns count from 1 and are scaled so that the
    last one is (nearly) 2 pi; even channels are sines and odd ones cosines of ever lower frequency.

    Args:
        height: Rows.
        width: Columns.
        dim: Channels c, a multiple of 4.
        device: Where to make it.
        dtype: What the result is rounded to; it is computed in float32.

    Source:
        DETR (arXiv:2005.12872), appendix A.4, with the normalisation of its code.
    """
    half = dim // 2
    exponent = 2 * torch.div(torch.arange(half, device=device), 2, rounding_mode="floor") / half
    frequency = 10000**exponent
    rows = _encode(height, frequency)[:, None].expand(height, width, half)
    columns = _encode(width, frequency)[None].expand(height, width, half)
    return torch.cat([rows, columns], dim=2).flatten(0, 1).to(dtype)


def _encode(length: int, frequency: Float[Tensor, " c"]) -> Float[Tensor, "_ c"]:
    position = torch.arange(1, length + 1, dtype=torch.float32, device=frequency.device)
    angle = (position / (length + 1e-6) * (2 * math.pi))[:, None] / frequency
    return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)
