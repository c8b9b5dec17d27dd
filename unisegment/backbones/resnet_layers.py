# SPDX-License-Identifier: Apache-2.0
"""transformers' ResNet, each convolution in one go with the norm, the sum and the activation that follow it.

A norm whose statistics are constants only scales and shifts its channels, which a convolution can do by itself with
other weights, in training, too. The layers are those of transformers, of the same names and weights, and its functions
compute them where statistics or norms learn, and on a GPU without gradients: there, to scale the weights would take
more time than the norm.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.models.resnet import modeling_resnet

from unisegment.layers.norm import FrozenBatchNorm2d, scale_and_shift
from unisegment.layers.own_layers import is_untouched
from unisegment.ops.fused_products import conv2d, fuses
from unisegment.ops.scaled_conv import scaled_conv2d

_ACTIVATIONS: dict[type[nn.Module], str | None] = {nn.ReLU: "relu", nn.Identity: None}
"""Activations that can be a part of a convolution, and their names."""


class ResNetConvLayer(modeling_resnet.ResNetConvLayer):
    """Convolution, norm and activation."""

    def forward(self, hidden_states: Float[Tensor, "b _ _ _"]) -> Float[Tensor, "b _ _ _"]:
        """Return the next map."""
        if _folds(self, hidden_states) and _is_known(self.activation):
            return _conv_norm(self, hidden_states, _ACTIVATIONS[type(self.activation)])
        return super().forward(hidden_states)


class ResNetShortCut(modeling_resnet.ResNetShortCut):
    """Convolution and norm of what a layer adds to its result."""

    def forward(self, input: Float[Tensor, "b _ _ _"]) -> Float[Tensor, "b _ _ _"]:
        """Return the map in the size of the result."""
        return _conv_norm(self, input) if _folds(self, input) else super().forward(input)


class _ResidualLayer(nn.Module):
    layer: nn.Sequential
    shortcut: nn.Module
    activation: nn.Module
    gradient_checkpointing = False
    """Set by transformers, together with the function that checkpoints, where layers are to be computed again."""
    _gradient_checkpointing_func: Callable[..., Tensor]

    def forward(self, hidden_state: Float[Tensor, "b _ _ _"]) -> Float[Tensor, "b _ _ _"]:
        """Return the next map."""
        last: Any = self.layer[-1]
        is_unseen = is_untouched(self.layer, nn.Sequential) and is_untouched(last, ResNetConvLayer)
        folds = is_unseen and all(_folds(layer, hidden_state) for layer in self.layer)
        if not (folds and _is_known(last.activation) and _is_known(self.activation)):
            return super().forward(hidden_state)  # with statistics that move: not twice
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(self._folded, hidden_state)
        return self._folded(hidden_state)

    def _folded(self, hidden_state: Float[Tensor, "b _ _ _"]) -> Float[Tensor, "b _ _ _"]:
        *before, last = self.layer
        x = hidden_state
        for layer in before:
            x = layer(x)
        return _conv_norm(last, x, _ACTIVATIONS[type(self.activation)], self.shortcut(hidden_state))


class ResNetBasicLayer(_ResidualLayer, modeling_resnet.ResNetBasicLayer):
    """Two convolutions beside a shortcut."""


class ResNetBottleNeckLayer(_ResidualLayer, modeling_resnet.ResNetBottleNeckLayer):
    """Three convolutions, of which those of one pixel narrow and widen, beside a shortcut."""


OWN_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    getattr(modeling_resnet, own.__name__): own
    for own in (ResNetConvLayer, ResNetShortCut, ResNetBasicLayer, ResNetBottleNeckLayer)
}
"""Ours in place of transformers', see `use_own_layers`."""


def _is_known(activation: nn.Module) -> bool:
    return any(is_untouched(activation, kind) for kind in _ACTIVATIONS)


def _folds(layer: Any, x: Tensor) -> bool:
    """Return whether the norm of a layer can become a part of its convolution, and nobody sees it."""
    conv, norm = layer.convolution, layer.normalization
    is_constant = is_untouched(norm, FrozenBatchNorm2d) or (is_untouched(norm, nn.BatchNorm2d) and not norm.training)
    is_here = conv.weight.device == norm.weight.device == x.device
    learns = torch.is_grad_enabled() and not torch.compiler.is_compiling() and not torch.jit.is_tracing()
    learns = learns and x.device.type != "meta"  # for which torch has no autocast
    folds = fuses(x, in_graphs=True) or (learns and not norm.weight.requires_grad)
    return is_constant and is_here and is_untouched(conv, nn.Conv2d) and folds


def _conv_norm(
    layer: Any,
    x: Float[Tensor, "b _ _ _"],
    activation: str | None = None,
    residual: Float[Tensor, "b _ _ _"] | None = None,
) -> Float[Tensor, "b _ _ _"]:
    conv, norm = layer.convolution, layer.normalization
    dtype = torch.promote_types(norm.weight.dtype, torch.float32)
    scale, shift = scale_and_shift(
        norm.weight.to(dtype), norm.bias.to(dtype), norm.running_mean.to(dtype), norm.running_var.to(dtype), norm.eps
    )
    places = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if torch.is_grad_enabled():
        return scaled_conv2d(x, conv.weight, scale, shift, places, activation, residual)
    weight = (conv.weight * scale[:, None, None, None]).to(x.dtype)
    return conv2d(x, weight, shift.to(x.dtype), *places, activation, residual)
