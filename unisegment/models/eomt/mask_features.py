# SPDX-License-Identifier: Apache-2.0
"""Patches in, an embedding for each cell of a finer grid out: a mask is its dot product with a query's embedding.

Channels come last here: the norm wants them together, and a CPU's convolution is several times as fast.

Axes: b image, c channel, h and w rows and columns.

Source:
    EoMT (arXiv:2503.19108), section 3.2, and its released code.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from unisegment.models.mask_classification import mask_logits
from unisegment.ops.fused_products import linear
from unisegment.ops.piece_size import PieceSize

NORM_EPS = 1e-6
"""Added to the variance by the norms here, whatever the layers of the transformer add."""
MAX_ELEMENTS = PieceSize(cpu=2**21, accelerator=2**26)
"""Numbers of the finest map that are made at a time where only masks are wanted. On a CPU they stay near its cores."""


class PatchwiseDeconv(nn.ConvTranspose2d):
    """A transposed convolution whose 2 x 2 patches do not overlap, before they are put into their places.

    It is a linear layer then, and computed as such: its backward pass takes a third of the time.

    Args:
        dim: Channels c.
    """

    bias: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, kernel_size=2, stride=2)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b h w c"], activation: str | None = None
    ) -> Float[Tensor, "b h w _"]:
        """Return the four pixels that each pixel becomes, row by row, each with its channels together."""
        return linear(x, rearrange(self.weight, "c c2 i j -> (i j c2) c"), self.bias.repeat(4), activation)


class UpscaleBlock(GradientCheckpointingLayer):
    """Double the rows and columns of a map: a transposed convolution, an activation, a 3x3 one by channel, a norm.

    Args:
        dim: Channels c.
        activation: A name that transformers knows.
    """

    def __init__(self, dim: int, activation: str) -> None:
        super().__init__()
        self.deconv = PatchwiseDeconv(dim)
        self.activation = activation
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.LayerNorm(dim, NORM_EPS)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b _ _ c"]:
        """Return the finer map."""
        if not torch.is_grad_enabled():
            return self._smoothed(self.deconv(x, self.activation))
        x = self.deconv(x)
        if x.requires_grad and not torch.compiler.is_compiling():
            # These maps are the largest of all: computed again, they are not held until the backward pass.
            return checkpoint(self._activated, x, use_reentrant=False, preserve_rng_state=False)
        return self._activated(x)

    def _activated(self, x: Float[Tensor, "b h w _"]) -> Float[Tensor, "b _ _ c"]:
        return self._smoothed(ACT2FN[self.activation](x))

    def _smoothed(self, x: Float[Tensor, "b h w _"]) -> Float[Tensor, "b _ _ c"]:
        x = rearrange(x, "b h w (i j c) -> b (h i) (w j) c", i=2, j=2)
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Upscale(nn.Sequential):
    """Double a map of patches several times.

    Args:
        dim: Channels c.
        num_blocks: How many times.
        activation: See `UpscaleBlock`.
    """

    def __init__(self, dim: int, num_blocks: int, activation: str) -> None:
        super().__init__(*(UpscaleBlock(dim, activation) for _ in range(num_blocks)))

    def masks(
        self, patches: Float[Tensor, "b h w c"], mask_embeddings: Float[Tensor, "b q c"]
    ) -> Float[Tensor, "b q _ _"]:
        """Return the mask of each query, before sigmoid; the finest map, the largest of all, is made piece by piece."""
        blocks, coarse = list(self), patches
        for block in blocks[:-1]:
            coarse = block(coarse)
        if not blocks:
            return mask_logits(mask_embeddings, coarse.permute(0, 3, 1, 2))
        height, row = coarse.shape[1], 4 * coarse[:, 0].numel()
        size = max(1, MAX_ELEMENTS.on(coarse.device) // row)
        pieces = []
        for first in range(0, height, size):
            # One more row on each side, which the 3x3 convolution looks at.
            above, below = min(first, 1), min(max(height - first - size, 0), 1)
            piece = blocks[-1](coarse[:, first - above : first + size + below])
            piece = piece[:, 2 * above : piece.shape[1] - 2 * below]
            pieces.append(mask_logits(mask_embeddings, piece.permute(0, 3, 1, 2)))
        return torch.cat(pieces, dim=2)
