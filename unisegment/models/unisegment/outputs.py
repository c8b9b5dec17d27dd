# SPDX-License-Identifier: Apache-2.0
"""What the model returns."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class UniSegmentOutput(ModelOutput):
    """Raw predictions, and the loss where targets were given.

    Args:
        loss: Sum of `loss_dict`.
        loss_dict: Weighted terms `loss_cross_entropy`, `loss_mask`, `loss_dice` of the final prediction, and the same
            with `_0`, `_1`, … for the predictions before it.
        class_queries_logits: Class of each query, before softmax; the last class is "no object".
        masks_queries_logits: Mask of each query, before sigmoid, at stride 4 of the padded image.
        auxiliary_logits: One dict with these two keys for each inner prediction; index 0 is the learned queries' own.
        image_sizes: (height, width) of each image inside the padded `pixel_values`; post-processing crops by it.
    """

    loss: Float[Tensor, ""] | None = None
    loss_dict: dict[str, Float[Tensor, ""]] | None = None
    class_queries_logits: Float[Tensor, "b q k"] | None = None
    masks_queries_logits: Float[Tensor, "b q h w"] | None = None
    auxiliary_logits: list[dict[str, Tensor]] | None = None
    image_sizes: Int[Tensor, "b 2"] | None = None
