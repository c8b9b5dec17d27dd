# SPDX-License-Identifier: Apache-2.0
"""Convolutions with group normalisation, the building block of the pixel decoders."""

from typing import Literal

from torch import nn

NUM_GROUPS = 32
"""Groups of every group normalisation; channel counts must be multiples of it. Source: Mask2Former's code."""


class ConvNorm(nn.Sequential):
    """Convolution, group normalisation and, if asked for, ReLU; the size of the map stays.

    Args:
        in_channels: Channels that enter.
        out_channels: Channels that leave, a multiple of 32.
        kernel_size: 1 or 3; padding keeps the size.
        bias: Whether the convolution has one.
        activation: Whether a ReLU follows.
        initialisation: "xavier" (with zero bias) or "kaiming" (uniform with a = 1, the c2_xavier of Caffe2's models).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        bias: bool,
        activation: bool,
        initialisation: Literal["xavier", "kaiming"],
    ) -> None:
        super().__init__()
        self.initialisation = initialisation
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.norm = nn.GroupNorm(NUM_GROUPS, out_channels)
        if activation:
            self.activation = nn.ReLU(inplace=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the convolution; the normalisation starts at 1 and 0."""
        initialise_conv(self.conv, self.initialisation)


def initialise_conv(conv: nn.Conv2d, initialisation: Literal["xavier", "kaiming"]) -> None:
    """Set the weight of a convolution as named (see `ConvNorm`), and its bias to zero."""
    if initialisation == "xavier":
        nn.init.xavier_uniform_(conv.weight)
    else:
        nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
