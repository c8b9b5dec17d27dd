# SPDX-License-Identifier: Apache-2.0
"""transformers' own Eomt as a family: `model.type: transformers_eomt` trains it in place of ours."""

from dataclasses import replace
from typing import Any

from jaxtyping import Float
from peers.peer import Peer
from torch import Tensor, nn

from unisegment.models.base import FAMILIES
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation
from unisegment.runs.recipe import Recipe


class TransformersEomtConfig(UniSegmentEomtConfig):
    """The keys of ours; those that transformers' model cannot follow are refused when it is made.

    Args:
        pretrained: A checkpoint to start from, in place of the recipe's `model.pretrained`.
    """

    model_type = "transformers_eomt"

    pretrained: str | None = None


class TransformersEomt(Peer):
    """transformers' Eomt or EomtDinov3, which takes images of `image_size` only.

    Args:
        config: Its keys; masks are annealed away as they say, by the buffer that transformers has for it.
        ours: See `Peer`.

    Raises:
        ValueError: When transformers' model cannot be what ours is.
    """

    of = "unisegment_eomt"
    attn_mask_probs: Float[Tensor, " num_blocks"]

    def __init__(self, config: Any, ours: Any = None) -> None:
        super().__init__(config, ours)
        self.register_buffer("attn_mask_probs", self.stock.attn_mask_probs)

    def parts(self, stock: Any) -> dict[str, nn.Module]:
        """Return the parts under the names that ours have."""
        return {
            "backbone": _Backbone(stock),
            "queries": stock.query,
            "upscale": stock.upscale_block,
            "mask_head": stock.mask_head,
            "class_predictor": stock.class_predictor,
            "criterion": stock.criterion,
        }

    # The layers have the names that ours have.
    layers_above = UniSegmentEomtForUniversalSegmentation.layers_above

    def at_step(self, step: int, of: int) -> None:
        """Let go of the masks as ours does."""
        if self.config.attn_mask_annealing:
            for block, prob in enumerate(self.config.mask_probabilities(step / of)):
                self.attn_mask_probs[block] = prob

    def call(self, pixel_values: Float[Tensor, "b 3 h w"], targets: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
        """Return what it finds in images of its `image_size`, and the terms of its loss; see `Peer`."""
        self.stock.attn_mask_probs = self.attn_mask_probs  # wherever it has been moved to
        parts: list[dict[str, Tensor]] = []
        score = type(self.stock).get_loss_dict

        def noted(**predictions: Any) -> dict[str, Tensor]:
            parts.append(score(self.stock, **predictions))
            return parts[-1]

        self.stock.get_loss_dict = noted  # its own forward keeps the terms to itself
        try:
            found = self.stock(pixel_values, **targets)
        finally:
            del self.stock.get_loss_dict
        *inner, last = parts or [{}]
        return found, last | {f"{name}_{i}": term for i, one in enumerate(inner) for name, term in one.items()}


class _Backbone(nn.Module):
    """What transformers' model has of a vision transformer, under the names that ours has for it."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.embeddings, self.layers, self.norm = stock.embeddings, stock.layers, stock.layernorm

    def freeze(self, frozen_stages: Any) -> None:
        """Refuse to freeze any of it."""
        if frozen_stages != 0:
            raise ValueError(f"transformers' EoMT is trained as a whole here: frozen_stages is {frozen_stages}, not 0.")


FAMILY = replace(
    FAMILIES[TransformersEomt.of],
    name="transformers' EoMT",
    config=TransformersEomtConfig,
    model_class=f"{__name__}:TransformersEomt",
    stock=(),
    original=None,
)


def square_keys(recipe: Recipe) -> dict[str, Any]:
    """Return the keys that put every image onto the square that transformers' model is made for.

    Images of the data set must not be longer than `data.longest_edge`, or be cropped to it.
    """
    patch_size = recipe.model.config.get("patch_size", TransformersEomtConfig.patch_size)
    side = -(-recipe.data.longest_edge // patch_size) * patch_size
    return {"model.config.image_size": side, "model.processor.pad_size": {"height": side, "width": side}}
