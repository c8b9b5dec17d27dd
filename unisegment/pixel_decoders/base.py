# SPDX-License-Identifier: Apache-2.0
"""What every pixel decoder gives."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class PixelDecoderOutput:
    """Feature maps for the transformer decoder and for the masks.

    Args:
        mask_features: Embedding of each pixel at stride 4; masks are dot products with it.
        multi_scale_features: The maps that queries attend to, coarse to fine.
    """

    mask_features: Float[Tensor, "b c h w"]
    multi_scale_features: tuple[Float[Tensor, "b _ _ _"], ...]
