# SPDX-License-Identifier: Apache-2.0
"""transformers' ResNet, each convolution in one go with the norm, the sum and the activation that follow it.

A norm whose statistics are constants only scales and shifts its channels, which a convolution can do by itself with
other weights. The layers are those of transformers, of the same names and weights, and its functions compute them where
`unisegment.ops.fused_products.fuses` says no.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers.models.resnet import modeling_resnet

from unisegment.layers.norm import FrozenBatchNorm2d, scale_and_shift
from unisegment.ops.fused_products import conv2d, fuses

_ACTIVATIONS: dict[type[nn.Module], str | None] = {nn.ReLU: "relu", nn.Identity: None}
"""Activations that can be fused, and their names."""


class ResNetConvLayer(modeling_resnet.ResNetConvLayer):
    """Convolution, norm and activation."""

    def forward(self, hidden_states: Float[Tensor, "b _ _ _"]) -> Float[Tensor, "b _ _ _"]:
        """Return the next map."""
        if _folds(self, hidden_states) and type(self.activation) in _ACTIVATIONS:
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

    def forward(self, hidden_state: Float[Tensor, "b _ _ _"]) -> Float[Tensor, "b _ _ _"]:
        """Return the next map."""
        *before, last = self.layer
        if not (_folds(last, hidden_state) and type(self.activation) in _ACTIVATIONS):
            return super().forward(hidden_state)
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


def _folds(layer: Any, x: Tensor) -> bool:
    """Return whether the norm of a layer can become a part of its convolution."""
    conv, norm = layer.convolution, layer.normalization
    is_constant = isinstance(norm, FrozenBatchNorm2d) or (type(norm) is nn.BatchNorm2d and not norm.training)
    is_here = conv.weight.device == norm.weight.device == x.device
    return is_constant and is_here and type(conv) is nn.Conv2d and fuses(x, in_graphs=True)


def _conv_norm(
    layer: Any,
    x: Float[Tensor, "b _ _ _"],
    activation: str | None = None,
    residual: Float[Tensor, "b _ _ _"] | None = None,
) -> Float[Tensor, "b _ _ _"]:
    conv, norm = layer.convolution, layer.normalization
    scale, shift = scale_and_shift(
        norm.weight.float(), norm.bias.float(), norm.running_mean.float(), norm.running_var.float(), norm.eps
    )
    weight = (conv.weight * scale[:, None, None, None]).to(x.dtype)
    return conv2d(
        x, weight, shift.to(x.dtype), conv.stride, conv.padding, conv.dilation, conv.groups, activation, residual
    )
