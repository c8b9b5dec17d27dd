# SPDX-License-Identifier: Apache-2.0
"""A model of ours in, transformers' own with the same weights out, as the training loop knows models.

Everything around the network is shared: data, optimiser, schedule, evaluation. The network, matching and losses, and
what losses are divided by, are transformers' own.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unisegment.models.base import FAMILIES, Family


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

    def lr_scale(self, name: str, layer_decay: float) -> float:
        """Return 1: there are no layers that learn more slowly."""
        return 1.0

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
