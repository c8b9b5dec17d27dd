# SPDX-License-Identifier: Apache-2.0
"""A model in, the same with small trainable matrices beside its frozen layers out, and back to a plain model.

Training steps see the matrices, by peft's layers; evaluation and files get a model with them added to the weights.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unisegment.runs.lora_recipe import LoraRecipe
from unisegment.runs.settings import RecipeError

Model = TypeVar("Model", bound=nn.Module)

_ADAPTER = "default"  # the name that peft gives


def add_adapters(model: Any, lora: LoraRecipe, new_weights: Collection[str]) -> None:
    """Freeze a model but for matrices beside its linear layers, the class head, and weights that are new.

    Args:
        model: A `SegmentationModel`, changed in place: its layers become peft's, with themselves as `base_layer`.
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
        if parameter.requires_grad and (name.startswith(model.class_head) or name in new_weights)
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


def _target_names(model: Any, targets: str | None, new_weights: Collection[str]) -> list[str]:
    """Return the names of the layers that get matrices."""
    names = [
        name
        for name in model.lora_targets()
        if model.get_parameter(f"{name}.weight").requires_grad and f"{name}.weight" not in new_weights
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
