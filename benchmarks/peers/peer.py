# SPDX-License-Identifier: Apache-2.0
"""A model of ours in, transformers' own with the same weights out, as the training loop knows models.

Everything around the network is shared: data, optimiser, schedule, evaluation. The network, matching and losses, and
what losses are divided by, are transformers' own.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.utils import ModelOutput

from unisegment.models.base import FAMILIES, Family
from unisegment.models.mask_classification import find_image_sizes
from unisegment.structures import SegmentationTarget


@dataclass
class PeerOutput(ModelOutput):
    """What evaluation and the training step read; see the output of our model."""

    loss: Float[Tensor, ""] | None = None
    class_queries_logits: Float[Tensor, "b q k"] | None = None
    masks_queries_logits: Float[Tensor, "b q h w"] | None = None
    loss_dict: dict[str, Float[Tensor, ""]] | None = None
    image_sizes: Int[Tensor, "b 2"] | None = None


class Peer(nn.Module):
    """transformers' model; subclasses say which parts it has and how it is called.

    Args:
        config: Extends that of our model by `pretrained`, a checkpoint to start from; what is not its classes is then
            as in the checkpoint.
        ours: The model whose weights are taken over; None makes one, as a run of ours does at the same seed.

    Raises:
        ValueError: When transformers' model cannot be what ours is.
    """

    of: ClassVar[str]
    """The `model_type` of ours."""
    class_head: ClassVar[str] = "class_predictor"
    query_tables: ClassVar[Sequence[str]] = ()
    backbone: Any

    def __init__(self, config: Any, ours: Any = None) -> None:
        super().__init__()
        family = FAMILIES[self.of]
        if ours is None:
            ours = _pretrained(family, config) if config.pretrained else family.model()(config)
            config = ours.config
        twin = family.stock_layout(config).twin(config, ours.state_dict())
        stock = type(twin)(twin.config)  # the twin has no memory for buffers that are not saved
        stock.load_state_dict(twin.state_dict())
        self.config = config
        # Not a child, but its parts are, under our names: the optimiser goes by them.
        self.__dict__["stock"] = stock
        for name, part in self.parts(stock).items():
            self.add_module(name, part)

    def parts(self, stock: Any) -> dict[str, nn.Module]:
        """Return all parts of transformers' model that have weights, by our names; one is the `backbone`."""
        raise NotImplementedError

    def call(self, pixel_values: Float[Tensor, "b 3 h w"], targets: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
        """Return what transformers' model finds, and the terms of its loss.

        Args:
            pixel_values: As in our model.
            targets: `mask_labels` and `class_labels` as transformers takes them; empty where there are none.
        """
        raise NotImplementedError

    def forward(
        self,
        pixel_values: Float[Tensor, "b 3 h w"],
        mask_labels: Sequence[SegmentationTarget] | None = None,
        class_labels: Sequence[Int[Tensor, " n"]] | None = None,
        pixel_mask: Int[Tensor, "b h w"] | None = None,
        loss_denominators: None = None,
    ) -> PeerOutput:
        """Predict, and score the prediction if targets are given.

        Args:
            pixel_values: As in our model.
            mask_labels: As collated for ours; float masks are made of them here.
            class_labels: Labels of the masks.
            pixel_mask: As in our model.
            loss_denominators: Without effect: transformers has its own.
        """
        targets: dict[str, Any] = {}
        if mask_labels is not None and class_labels is not None:
            masks = [target.binary_masks().float() for target in mask_labels]
            targets = {"mask_labels": masks, "class_labels": list(class_labels)}
        found, terms = self.call(pixel_values, targets)
        return PeerOutput(
            loss=self.stock.get_loss(terms) if terms else None,
            class_queries_logits=found.class_queries_logits,
            masks_queries_logits=found.masks_queries_logits,
            loss_dict=terms or None,
            image_sizes=find_image_sizes(pixel_values, pixel_mask),
        )

    @classmethod
    def count_numbers(cls, config: Any) -> int:
        """Return how many numbers our model has."""
        return FAMILIES[cls.of].model().count_numbers(config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.stock.device

    def loss_denominators(self, targets: Sequence[Any], add: Callable[[Tensor], Tensor], num_processes: int) -> None:
        """Return None: transformers divides the loss of each micro-batch by what that one holds."""

    def loss_without_values(self) -> AbstractContextManager[None]:
        """Refuse: transformers' loss computes with values."""
        raise ValueError(f"The memory of {self.name} cannot be told without training it.")

    def lora_targets(self) -> list[str]:
        """Return none: it is trained as a whole."""
        return []

    def gradient_checkpointing_enable(self) -> None:
        """Refuse to compute layers again."""
        raise ValueError(f"{self.name} is trained without model.gradient_checkpointing here: set it to false.")

    activation_checkpointing_enable = gradient_checkpointing_enable  # its name since transformers 5.23

    def layers_above(self, name: str) -> int:
        """Return 0: there are no layers that learn more slowly."""
        return 0

    def at_step(self, step: int, of: int) -> None:
        """Do nothing."""

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"transformers' {FAMILIES[self.of].name}"

    def train(self, mode: bool = True) -> "Peer":
        """Set training or evaluation mode, as in torch; what is constant stays in evaluation mode."""
        self.stock.train(mode)
        return super().train(mode)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write a checkpoint of transformers, see `PreTrainedModel.save_pretrained`."""
        self.stock.save_pretrained(save_directory, **kwargs)


def _pretrained(family: Family, config: Any) -> Any:
    classes = {"id2label": config.id2label, "categories": config.categories}
    return family.model().from_pretrained(config.pretrained, ignore_mismatched_sizes=True, **classes)
