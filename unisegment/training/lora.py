# SPDX-License-Identifier: Apache-2.0
"""A model in, the same with small trainable matrices beside its frozen layers out, and back to a plain model.

Training steps see the matrices, by peft's layers; evaluation and files get a model with them added to the weights.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import torch
from torch import Tensor, nn

from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.training.settings import Bounds, NotBelowZero, RecipeError, Share

Model = TypeVar("Model", bound=nn.Module)

_ADAPTER = "default"  # the name that peft gives
_CLASS_HEAD = "transformer_decoder.predictor.class_head"


@dataclass(frozen=True, kw_only=True)
class LoraRecipe:
    """Whether two small matrices learn beside each layer, instead of the layer itself.

    Besides them only the class head learns, and what the checkpoint does not have.

    Args:
        rank: The smaller side of both matrices; 0 lets the layers themselves learn.
        alpha: Their product counts `alpha / rank` times; None is `rank`, so once.
        dropout: Share of their inputs dropped in training.
        targets: Regular expression for the full names of the linear layers that get them, such as
            `.*(q_proj|v_proj)`. None is all of them: attention, feed-forward and mask head. What
            `model.frozen_stages` freezes gets none.

    Source:
        LoRA (arXiv:2106.09685); section 4.1 for `rank` and `alpha`.
    """

    rank: Annotated[int, Bounds(0, 2**16)] = 0
    alpha: NotBelowZero | None = None
    dropout: Share = 0.0
    targets: str | None = None

    def __post_init__(self) -> None:
        if self.alpha == 0:
            raise ValueError("alpha must be more than 0, got 0.")
        if self.dropout == 1:
            raise ValueError("dropout must be below 1, got 1.")
        if len(re.findall(r"[*+{]", self.targets or "")) > 4 or re.search(r"\)[*+{]", self.targets or ""):
            raise ValueError(
                f"targets={self.targets!r}: more than 4 repetitions (* + {{}}), or one of a group, can take years to "
                "match. Name the layers with fewer."
            )
        try:
            re.compile(self.targets or "")
        except re.error as error:
            raise ValueError(f"targets={self.targets!r} is not a regular expression: {error}.") from error


def add_adapters(model: UniSegmentForUniversalSegmentation, lora: LoraRecipe, new_weights: Collection[str]) -> None:
    """Freeze a model but for matrices beside its linear layers, the class head, and weights that are new.

    Args:
        model: Is changed in place: its layers become peft's, with themselves as `base_layer`.
        lora: `rank` is more than 0.
        new_weights: Names of those that have their random start; they learn as they are.

    Raises:
        RecipeError: When peft is missing, or no layer is called as `targets` says.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise RecipeError(
            f"model.lora.rank={lora.rank} needs peft: pip install 'unisegment[lora]'. It says: {error}"
        ) from error
    learning = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (name.startswith(_CLASS_HEAD) or name in new_weights)
    ]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.rank if lora.alpha is None else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="|".join(map(re.escape, _target_names(model, lora.targets, new_weights))),
    )
    inject_adapter_in_model(config, model, _ADAPTER)
    del model.peft_config  # to transformers it stays a model without adapters of its own kind
    for parameter in learning:
        parameter.requires_grad_(True)
    if not any(parameter.requires_grad for parameter in model.backbone.parameters()):
        model.backbone.freeze("all")  # statistics of its norms, too


def _target_names(model: nn.Module, targets: str | None, new_weights: Collection[str]) -> list[str]:
    """Return the names of the layers that get matrices."""
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and name != _CLASS_HEAD
        and f"{name}.weight" not in new_weights
    ]
    found = [name for name in names if targets is None or re.fullmatch(targets, name)]
    if not found:
        raise RecipeError(
            f"model.lora.targets={targets}: of the {len(names)} linear layers that may learn, none is called so. The "
            f"expression must match the full name, such as: {', '.join(names[:3]) or 'none'}."
        )
    return found


def without_adapters(model: Model) -> Model:
    """Return a model whose layers are put back in place, without what was learned beside them; changes it."""
    for name, layer in _adapted_layers(model).items():
        model.set_submodule(name, layer.base_layer)
    return model


def merged(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a plain model that computes the same as one with adapters.

    Args:
        model: Has the layers; as it is, if it has no adapters.
        state: Its whole weights, by the names of its `state_dict`; stay as they are.
    """
    plain = dict(state)
    for name, layer in _adapted_layers(model).items():
        down, up = (plain.pop(f"{name}.lora_{part}.{_ADAPTER}.weight") for part in ("A", "B"))
        for part in ("weight", "bias"):
            if f"{name}.base_layer.{part}" in plain:
                plain[f"{name}.{part}"] = plain.pop(f"{name}.base_layer.{part}")
        plain[f"{name}.weight"] = torch.addmm(plain[f"{name}.weight"], up, down, alpha=layer.scaling[_ADAPTER])
    return plain


def _adapted_layers(model: nn.Module) -> dict[str, Any]:
    # peft's own class would have to be imported to be asked for.
    return {name: module for name, module in model.named_modules() if hasattr(module, "base_layer")}
