# SPDX-License-Identifier: Apache-2.0
"""Linear layers that do what follows them, an activation or a sum, in one go where that is faster."""

from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN

from unisegment.ops.fused_products import linear


class Linear(nn.Linear):
    """torch's linear layer, by the fastest function that there is for it, see `unisegment.ops.fused_products`."""

    def forward(
        self,
        input: Float[Tensor, "*batch c"],
        activation: str | None = None,
        residual: Float[Tensor, "*batch o"] | None = None,
    ) -> Float[Tensor, "*batch o"]:
        """Return the products, after an activation that transformers knows by name, plus a residual."""
        return linear(input, self.weight, self.bias, activation, residual)


def apply_linear(
    layer: nn.Module, x: Float[Tensor, "*batch c"], activation: str | None = None, residual: Tensor | None = None
) -> Float[Tensor, "*batch o"]:
    """Return `activation(layer(x)) + residual`.

    Args:
        layer: A `Linear`, or what stands in its place, such as one with adapters.
        x: Vectors.
        activation: A name that transformers knows; None is without.
        residual: Added at the end; None adds nothing.
    """
    if type(layer) is Linear:
        return layer(x, activation, residual)
    y = layer(x)
    y = y if activation is None else ACT2FN[activation](y)
    return y if residual is None else residual + y
