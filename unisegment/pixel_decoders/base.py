# SPDX-License-Identifier: Apache-2.0
"""What every pixel decoder gives."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class PixelDecoderOutput(NamedTuple):
    """Feature maps for the transformer decoder and for the masks.

    A tuple, as what wraps modules (FSDP, device maps) finds no tensors in other classes.

    Args:
        mask_features: Embedding of each pixel at stride 4; masks are dot products with it.
        multi_scale_features: The maps that queries attend to, coarse to fine.
    """

    mask_features: Float[Tensor, "b c h w"]
    multi_scale_features: tuple[Float[Tensor, "b _ _ _"], ...]
