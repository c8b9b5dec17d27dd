# SPDX-License-Identifier: Apache-2.0
"""A recipe in, a training run of transformers' own Mask2Former out, from the same weights and in the same loop as ours.

Everything around the network is shared: data, optimiser, schedule, evaluation. The network, matching and losses, and
what losses are divided by, are transformers' own.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Mask2FormerForUniversalSegmentation

from unisegment.backbones.freezing import FrozenStages, frozen_modules
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.models.unisegment.checkpoint_conversion import STOCK_ONLY
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation, find_image_sizes
from unisegment.models.unisegment.outputs import UniSegmentOutput
from unisegment.models.unisegment.stock_checkpoints import config_to_stock, stock_twin
from unisegment.runs.recipe import Recipe
from unisegment.structures import SegmentationTarget
from unisegment.training import fit, loop
from unisegment.training.assembly import build_model

# Our names for the parts of transformers' model.
_PARTS = {
    "backbone": "model.pixel_level_module.encoder",
    "pixel_decoder": "model.pixel_level_module.decoder",
    "transformer_decoder": "model.transformer_module",
    "class_head": "class_predictor",
    "criterion": "criterion",
}
# With other values transformers' model stops in the middle of a forward pass: it drops layers, but not their masks, and
# cannot do without the inner predictions.
_TRAINABLE = {"dropout": 0, "use_auxiliary_loss": True}


def fit_peer(recipe: Recipe | str | Path, **overrides: Any) -> dict[str, Any]:
    """Train transformers' Mask2Former as `fit` trains ours.

    Args:
        recipe: As in `fit`.
        overrides: As in `fit`.

    Returns:
        As `fit` does.

    Raises:
        ValueError: When transformers' model cannot be trained so; and as `fit` does.
    """
    with mock.patch.object(loop, "build_model", build_peer):
        return fit(recipe, **overrides)


def build_peer(
    recipe: Recipe, samples: AnnotatedImages, say: Callable[[str], object] | None = None
) -> tuple["TransformersPeer", UniSegmentImageProcessor]:
    """Return what takes the place of the model in the training loop, and its processor; see `build_model`.

    Raises:
        ValueError: When transformers' model cannot be trained as the recipe says.
    """
    chosen = recipe.model
    if chosen.gradient_checkpointing or chosen.lora.rank:
        raise ValueError(
            "transformers' Mask2Former is trained without model.gradient_checkpointing and model.lora: set them to "
            "false and to rank 0."
        )
    model, processor = build_model(recipe, samples, say)
    return TransformersPeer(model, chosen.frozen_stages, recipe.optim.accumulation), processor


class TransformersPeer(nn.Module):
    """transformers' Mask2Former, with what a training loop needs of a model of ours.

    Batch normalisation of the backbone is constant where our config says so, and the backbone's parts are frozen as
    ours are: both without a change to transformers' code.

    Args:
        model: Ours; its config and its weights are taken over.
        frozen_stages: How much of the backbone does not learn.
        accumulation: Micro-batches of a step. transformers divides the loss of each by what that one holds, so each
            counts for its share of the step.

    Raises:
        ValueError: When transformers' model cannot be what ours is, or has fewer stages.
    """

    stock: Mask2FormerForUniversalSegmentation
    backbone: nn.Module

    def __init__(
        self, model: UniSegmentForUniversalSegmentation, frozen_stages: FrozenStages = 0, accumulation: int = 1
    ) -> None:
        super().__init__()
        self.config: UniSegmentConfig = model.config
        self.accumulation = accumulation
        for key, value in _TRAINABLE.items():
            if getattr(self.config, key) != value:
                raise ValueError(
                    f"transformers' Mask2Former can be trained with {key}={value} only, this model has "
                    f"{getattr(self.config, key)}."
                )
        stock = Mask2FormerForUniversalSegmentation(config_to_stock(self.config))
        stock.load_state_dict(stock_twin(self.config, model.state_dict()).state_dict())
        for name, parameter in stock.named_parameters():
            if STOCK_ONLY.fullmatch(name):  # DistributedDataParallel would wait for its gradient
                parameter.requires_grad_(False)
        # Not a child, but its parts are, under our names: the optimiser goes by them.
        self.__dict__["stock"] = stock
        for name, path in _PARTS.items():
            self.add_module(name, stock.get_submodule(path))
        self.frozen_stages: FrozenStages = frozen_stages
        for module in self._constant_modules():
            module.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.stock.device

    def forward(
        self,
        pixel_values: Float[Tensor, "b 3 h w"],
        mask_labels: Sequence[SegmentationTarget] | None = None,
        class_labels: Sequence[Int[Tensor, " n"]] | None = None,
        pixel_mask: Int[Tensor, "b h w"] | None = None,
        loss_denominators: Float[Tensor, "2"] | None = None,
    ) -> UniSegmentOutput:
        """Predict, and score the prediction if targets are given.

        Args:
            pixel_values: As in our model.
            mask_labels: As collated for ours; float masks are made of them here.
            class_labels: Labels of the masks.
            pixel_mask: As in our model.
            loss_denominators: Without effect: transformers has its own.
        """
        with_loss = mask_labels is not None and class_labels is not None
        found = self.stock(pixel_values, output_auxiliary_logits=with_loss)
        output = UniSegmentOutput(
            class_queries_logits=found.class_queries_logits,
            masks_queries_logits=found.masks_queries_logits,
            image_sizes=find_image_sizes(pixel_values, pixel_mask),
        )
        if mask_labels is not None and class_labels is not None:
            # What its own forward does with them, but that one keeps the terms to itself.
            terms = self.stock.get_loss_dict(
                masks_queries_logits=found.masks_queries_logits,
                class_queries_logits=found.class_queries_logits,
                mask_labels=[target.binary_masks().float() for target in mask_labels],
                class_labels=list(class_labels),
                auxiliary_predictions=found.auxiliary_logits,
            )
            output.loss_dict = {name: term / self.accumulation for name, term in terms.items()}
            output.loss = self.stock.get_loss(output.loss_dict)
        return output

    def train(self, mode: bool = True) -> "TransformersPeer":
        """Set training or evaluation mode, as in torch; what is constant stays in evaluation mode."""
        self.stock.train(mode)
        super().train(mode)
        for module in self._constant_modules():
            module.eval()
        return self

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write a checkpoint of transformers' Mask2Former, see `PreTrainedModel.save_pretrained`."""
        self.stock.save_pretrained(save_directory, **kwargs)

    def _constant_modules(self) -> list[nn.Module]:
        constant = frozen_modules(self.backbone, self.frozen_stages)
        if self.config.freeze_backbone_norm:
            norms = nn.modules.batchnorm._BatchNorm
            constant += [module for module in self.backbone.modules() if isinstance(module, norms)]
        return constant
