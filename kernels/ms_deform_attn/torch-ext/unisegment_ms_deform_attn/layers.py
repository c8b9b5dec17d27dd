# SPDX-License-Identifier: Apache-2.0
"""Layers for `kernels.kernelize`: without parameters, and with the signature of the layer they replace."""

from torch import Tensor, nn

from . import ms_deform_attn

__all__ = ["MultiScaleDeformableAttention"]


class MultiScaleDeformableAttention(nn.Module):
    """The layer of that name in transformers' detection models, on the compiled operator.

    Source:
        Signature: transformers 5, models/deformable_detr/modeling_deformable_detr.py.
    """

    can_torch_compile = True

    def forward(
        self,
        value: Tensor,
        value_spatial_shapes: Tensor,
        value_spatial_shapes_list: list[tuple[int, int]],
        level_start_index: Tensor,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int,
    ) -> Tensor:
        """Sum the values at the sampling locations, weighted.

        Args:
            value: What is sampled, (b s m d).
            value_spatial_shapes: Not used: reading it would wait for the GPU.
            value_spatial_shapes_list: (height, width) of each level.
            level_start_index: Not used: it follows from the shapes.
            sampling_locations: Points (x, y) in [0, 1], (b q m l p 2).
            attention_weights: Weight of each point, (b q m l p).
            im2col_step: Not used.

        Returns:
            (b, q, m*d), in value's dtype.
        """
        return ms_deform_attn(value, value_spatial_shapes_list, sampling_locations, attention_weights)
