# SPDX-License-Identifier: Apache-2.0
"""A recipe in, a training run of transformers' own model out, from the same weights and in the same loop as ours."""

from pathlib import Path
from typing import Any

from peers import eomt, mask2former

from unisegment.models.base import FAMILIES, Family
from unisegment.training import Recipe, fit, load_recipe

PEERS = {"unisegment": mask2former.FAMILY, "unisegment_eomt": eomt.FAMILY}
"""transformers' model for each of ours, by the `model_type` of the latter."""


def fit_peer(recipe: Recipe | str | Path, **overrides: Any) -> dict[str, Any]:
    """Train transformers' model as `fit` trains ours.

    Args:
        recipe: As in `fit`; its `model` describes ours.
        overrides: As in `fit`.

    Returns:
        As `fit` does.

    Raises:
        ValueError: When transformers' model cannot be trained so; and as `fit` does.
    """
    recipe = load_recipe(recipe, overrides)
    return fit(recipe, **peer_keys(recipe))


def peer_of(recipe: Recipe) -> Family:
    """Return transformers' model that stands for the one that a recipe describes."""
    return PEERS[recipe.model.type or "unisegment"]


def shared_keys(recipe: Recipe) -> dict[str, Any]:
    """Return the keys that both need, so that transformers' model can be trained as ours is."""
    return eomt.square_keys(recipe) if recipe.model.type == "unisegment_eomt" else {}


def peer_keys(recipe: Recipe) -> dict[str, Any]:
    """Return the keys that put transformers' model in the place of ours, and make it known.

    Raises:
        ValueError: When it is to have adapters.
    """
    chosen, family = recipe.model, peer_of(recipe)
    if chosen.lora.rank:
        raise ValueError(f"{family.name} is trained without model.lora here: set its rank to 0.")
    FAMILIES.register(family)
    start = {} if chosen.pretrained is None else {"pretrained": None, "config.pretrained": chosen.pretrained}
    return {f"model.{key}": value for key, value in {"type": family.model_type, **start}.items()}
