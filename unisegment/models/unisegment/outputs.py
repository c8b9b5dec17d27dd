# SPDX-License-Identifier: Apache-2.0
"""What the model returns."""

from dataclasses import dataclass, fields

from jaxtyping import Float, Int
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class UniSegmentOutput(ModelOutput):
    """Raw predictions, and the loss where targets were given.

    What transformers' Mask2Former returns comes first, under its names, in its order and in its shapes; a tuple of the
    fields that are not None is what a tuple of its is, with ours at the end.

    Args:
        loss: Sum of `loss_dict`.
        class_queries_logits: Class of each query, before softmax; the last class is "no object".
        masks_queries_logits: Mask of each query, before sigmoid, at stride 4 of the padded image.
        auxiliary_logits: One dict with these two keys for each inner prediction; index 0 is the learned queries' own.
        encoder_last_hidden_state: The backbone's coarsest map.
        pixel_decoder_last_hidden_state: The mask features.
        transformer_decoder_last_hidden_state: The queries after the last layer.
        encoder_hidden_states: The backbone's maps, fine to coarse.
        pixel_decoder_hidden_states: The maps that queries attend to, coarse to fine.
        transformer_decoder_hidden_states: The learned queries and the queries after each layer; queries before batch,
            as in transformers.
        attentions: How much each query of a layer looks at the others, for each head.
        loss_dict: Weighted terms `loss_cross_entropy`, `loss_mask`, `loss_dice` of the final prediction, and the same
            with `_0`, `_1`, … for the predictions before it.
        image_sizes: (height, width) of each image inside the padded `pixel_values`; post-processing crops by it.
    """

    loss: Float[Tensor, ""] | None = None
    class_queries_logits: Float[Tensor, "b q k"] | None = None
    masks_queries_logits: Float[Tensor, "b q h w"] | None = None
    auxiliary_logits: list[dict[str, Tensor]] | None = None
    encoder_last_hidden_state: Float[Tensor, "b _ _ _"] | None = None
    pixel_decoder_last_hidden_state: Float[Tensor, "b c h w"] | None = None
    transformer_decoder_last_hidden_state: Float[Tensor, "b q c"] | None = None
    encoder_hidden_states: tuple[Float[Tensor, "b _ _ _"], ...] | None = None
    pixel_decoder_hidden_states: tuple[Float[Tensor, "b c _ _"], ...] | None = None
    transformer_decoder_hidden_states: tuple[Float[Tensor, "q b c"], ...] | None = None
    attentions: tuple[Float[Tensor, "b m q q"], ...] | None = None
    loss_dict: dict[str, Float[Tensor, ""]] | None = None
    image_sizes: Int[Tensor, "b 2"] | None = None


NOT_PREDICTIONS = [
    item.name
    for item in fields(UniSegmentOutput)
    if item.name not in ("loss", "class_queries_logits", "masks_queries_logits", "image_sizes")
]
"""What transformers' Trainer need not gather when it evaluates."""
