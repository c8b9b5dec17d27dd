# SPDX-License-Identifier: Apache-2.0
"""What the model returns."""

from dataclasses import dataclass, fields

from jaxtyping import Float, Int
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class UniSegmentEomtOutput(ModelOutput):
    """Raw predictions, and the loss where targets were given.

    What transformers' Eomt returns comes first, under its names, in its order and in its shapes; ours is at the end.

    Args:
        loss: Sum of `loss_dict`.
        class_queries_logits: Class of each query, before softmax; the last class is "no object".
        masks_queries_logits: Mask of each query, before sigmoid, at the stride of the mask features.
        last_hidden_state: Queries, class token, registers and patches after the last layer and its norm.
        hidden_states: The tokens before the first layer and after each layer, the last as `last_hidden_state`; those of
            the last `num_blocks` layers have the queries in front.
        attentions: How much each token of a layer looks at the others, for each head.
        patch_offsets: As it was given: where the windows lie in the images that they were cut from.
        auxiliary_logits: One dict with class and mask logits for each inner prediction; index 0 is the learned queries'
            own.
        loss_dict: Weighted terms `loss_cross_entropy`, `loss_mask`, `loss_dice` of the final prediction, and the same
            with `_0`, `_1`, … for the predictions before it.
        image_sizes: (height, width) of each image inside the padded `pixel_values`; post-processing crops by it.
    """

    loss: Float[Tensor, ""] | None = None
    class_queries_logits: Float[Tensor, "b q k"] | None = None
    masks_queries_logits: Float[Tensor, "b q h w"] | None = None
    last_hidden_state: Float[Tensor, "b s c"] | None = None
    hidden_states: tuple[Float[Tensor, "b _ c"], ...] | None = None
    attentions: tuple[Float[Tensor, "b m _ _"], ...] | None = None
    patch_offsets: list[Int[Tensor, " 3"]] | None = None
    auxiliary_logits: list[dict[str, Tensor]] | None = None
    loss_dict: dict[str, Float[Tensor, ""]] | None = None
    image_sizes: Int[Tensor, "b 2"] | None = None


NOT_PREDICTIONS = [
    item.name
    for item in fields(UniSegmentEomtOutput)
    if item.name not in ("loss", "class_queries_logits", "masks_queries_logits", "image_sizes")
]
"""What transformers' Trainer need not gather when it evaluates."""
