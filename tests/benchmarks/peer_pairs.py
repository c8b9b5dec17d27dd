# SPDX-License-Identifier: Apache-2.0
"""Our model and transformers' of one recipe, as the training loop builds each."""

import sys
from pathlib import Path

import torch

from unisegment.runs.recipe import load_recipe
from unisegment.training.assembly import build_model, open_samples

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from peers.training import PEERS, fit_peer, peer_keys, shared_keys

__all__ = ["PEERS", "build_pair", "fit_peer", "shared_keys"]


def build_pair(recipe, **keys):
    """Return both models, the recipe of the second, its training images and its processor."""
    models = []
    for further in ({}, peer_keys(load_recipe(recipe, keys))):
        loaded = load_recipe(recipe, keys | further)
        samples, _ = open_samples(loaded.data)
        torch.manual_seed(loaded.run.seed)
        model, processor = build_model(loaded, samples)
        models.append(model)
    return *models, loaded, samples, processor
