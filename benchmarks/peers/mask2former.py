# SPDX-License-Identifier: Apache-2.0
"""transformers' own Mask2Former as a family: `model.type: transformers_mask2former` trains it in place of ours."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from peers.peer import Peer
from torch import Tensor, nn

from unisegment.backbones.base import Backbone
from unisegment.models.base import FAMILIES
from unisegment.models.unisegment.checkpoint_conversion import STOCK_ONLY
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig

# With other values transformers' model stops in the middle of a forward pass: it drops layers, but not their masks, and
# cannot do without the inner predictions.
_TRAINABLE = {"dropout": 0, "use_auxiliary_loss": True}


class TransformersMask2FormerConfig(UniSegmentConfig):
    """The keys of ours; those that transformers' model cannot follow are refused when it is made.

    Args:
        pretrained: A checkpoint to start from, in place of the recipe's `model.pretrained`.
    """

    model_type = "transformers_mask2former"

    pretrained: str | None = None


class TransformersMask2Former(Peer):
    """transformers' Mask2Former.

    Args:
        config: Its keys; `freeze_backbone_norm` holds for it, too.
        ours: See `Peer`.

    Raises:
        ValueError: When transformers' model cannot be what ours is.
    """

    of = "unisegment"

    def __init__(self, config: Any, ours: Any = None) -> None:
        super().__init__(config, ours)
        for key, value in _TRAINABLE.items():
            found = getattr(self.config, key)
            if found != value:
                raise ValueError(f"{self.name} can be trained with {key}={value} only, this model has {found}.")
        for name, parameter in self.stock.named_parameters():
            if STOCK_ONLY.fullmatch(name):  # DistributedDataParallel would wait for its gradient
                parameter.requires_grad_(False)

    def parts(self, stock: Any) -> dict[str, nn.Module]:
        """Return the parts under the names that ours have."""
        pixels = stock.model.pixel_level_module
        return {
            "backbone": _Encoder(pixels.encoder, self.config),
            "pixel_decoder": pixels.decoder,
            "transformer_decoder": stock.model.transformer_module,
            "class_predictor": stock.class_predictor,
            "criterion": stock.criterion,
        }

    def call(self, pixel_values: Float[Tensor, "b 3 h w"], targets: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
        """Return what it finds, and the terms of its loss; see `Peer`."""
        found = self.stock(pixel_values, output_auxiliary_logits=bool(targets))
        if not targets:
            return found, {}
        # What its own forward does with them, but that one keeps the terms to itself.
        terms = self.stock.get_loss_dict(
            masks_queries_logits=found.masks_queries_logits,
            class_queries_logits=found.class_queries_logits,
            auxiliary_predictions=found.auxiliary_logits,
            **targets,
        )
        return found, terms


class _Encoder(Backbone):
    """transformers' encoder, of which parts can be constant as in our backbones: without a change to its code."""

    def __init__(self, body: Any, config: UniSegmentConfig) -> None:
        super().__init__(body.channels, config.feature_strides)
        self.body = body
        norms = nn.modules.batchnorm._BatchNorm
        self._constant = [part for part in body.modules() if config.freeze_backbone_norm and isinstance(part, norms)]
        self.freeze(0)

    def _frozen_modules(self, frozen_stages: Any) -> list[nn.Module]:
        return super()._frozen_modules(frozen_stages) + self._constant

    def extract(self, pixel_values: Float[Tensor, "b 3 h w"]) -> Sequence[Float[Tensor, "b _ _ _"]]:
        """Compute the feature maps."""
        return self.body(pixel_values).feature_maps

    def load_pretrained(self, name_or_path: str) -> None:
        """Refuse: the weights are those of our model."""
        raise ValueError("transformers' encoder takes over the weights of ours.")


FAMILY = replace(
    FAMILIES[TransformersMask2Former.of],
    name="transformers' Mask2Former",
    config=TransformersMask2FormerConfig,
    model_class=f"{__name__}:TransformersMask2Former",
    stock=(),
    original=None,
)
