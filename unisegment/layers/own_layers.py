# SPDX-License-Identifier: Apache-2.0
"""Layers of a body that transformers made become ours, which compute the same in less time."""

from collections.abc import Mapping

from torch import nn


def use_own_layers(module: nn.Module, own: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Turn modules inside a module into ours; names, weights and hooks stay.

    Args:
        module: What is looked through.
        own: Our class for each of theirs, of which it has the attributes; subclasses of theirs stay as they are.
    """
    for child in module.modules():
        if type(child) in own:
            child.__class__ = own[type(child)]


def is_untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether nobody sees it when a module is not called, but its parts are.

    Somebody does who has put another class in its place, set hooks on it, or another `forward`.
    """
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return type(module) is kind and not any(hooks) and "forward" not in vars(module)
