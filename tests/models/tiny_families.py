# SPDX-License-Identifier: Apache-2.0
"""A tiny model of every family, for what all must hold; each family has its sizes in its own folder of tests."""

import copy
from functools import cache
from importlib import import_module

import torch

from unisegment.models.base import FAMILIES, FOLDERS

CATEGORIES = [
    {"id": 3, "name": "sky", "isthing": 0},
    {"id": 7, "name": "car", "isthing": 1},
    {"id": 11, "name": "tree", "isthing": 0},
    {"id": 12, "name": "person", "isthing": 1},
    {"id": 20, "name": "road", "isthing": 0},
]
STUFF = [0, 2, 4]
NUM_LABELS = len(CATEGORIES)


class TinyFamily:
    """A family, and a model of it whose weights are random, none at a special value.

    Args:
        model_type: Of its configs. `tests/models/<its folder>/tiny_config.py` has `CONFIG`, the keys of a tiny model,
            and `STOCK_SIZE`, height and width of an image that transformers' model of it takes.
    """

    def __init__(self, model_type):
        self.family = FAMILIES[model_type]
        self._tiny = import_module(f"tests.models.{FOLDERS[model_type]}.tiny_config")
        self._made = {}

    @property
    def keys(self):
        return copy.deepcopy(self._tiny.CONFIG)

    @property
    def stock_size(self):
        return self._tiny.STOCK_SIZE

    def config(self, **overrides):
        classes = {} if "num_labels" in overrides else {"categories": CATEGORIES}
        return self.family.config(**self.keys | classes | overrides)

    def model(self, **overrides):
        """Return a model that nobody else has."""
        key = repr(overrides)
        if key not in self._made:
            with torch.random.fork_rng():
                torch.manual_seed(3)
                model = self.family.model()(self.config(**overrides))
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.add_(0.05 * torch.randn_like(parameter))
            self._made[key] = model
        return copy.deepcopy(self._made[key])

    def processor(self, **settings):
        size = {"shortest_edge": 64, "longest_edge": 96}
        return self.family.new_processor(self.config(), **{"size": size, **settings})

    def save(self, folder, **overrides):
        """Write a checkpoint of model and processor, and return the folder's name."""
        self.model(**overrides).save_pretrained(folder)
        self.processor().save_pretrained(folder)
        return str(folder)


@cache
def tiny_family(model_type):
    return TinyFamily(model_type)
