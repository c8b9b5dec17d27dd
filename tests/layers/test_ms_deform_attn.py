# SPDX-License-Identifier: Apache-2.0
import torch

from unisegment.layers.ms_deform_attn import MSDeformAttn
from unisegment.ops.ms_deform_attn import ms_deform_attn_fused

SHAPES = [(3, 5), (7, 4)]


def test_projects_samples_and_projects():
    layer = MSDeformAttn(12, num_heads=3, num_levels=2, num_points=5)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    query, value = torch.randn(2, 7, 12), torch.randn(2, 43, 12)
    reference_points = torch.rand(2, 7, 2, 2)
    found = ms_deform_attn_fused(
        layer.value_proj(value).view(2, 43, 3, 4),
        SHAPES,
        reference_points,
        layer.sampling_offsets(query).view(2, 7, 3, 2, 5, 2),
        layer.attention_weights(query).view(2, 7, 3, 2, 5),
    )
    torch.testing.assert_close(layer(query, reference_points, value, SHAPES), layer.output_proj(found))


def test_starts_with_eight_directions_and_equal_weights():
    layer = MSDeformAttn(64, num_heads=8, num_levels=2, num_points=3)
    offsets = layer.sampling_offsets.bias.view(8, 2, 3, 2)
    directions = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for head, direction in enumerate(directions):
        for point in range(3):
            expected = torch.tensor(direction) * (point + 1.0)
            torch.testing.assert_close(offsets[head, :, point], expected.expand(2, 2), atol=1e-5, rtol=0)
    assert layer.sampling_offsets.weight.abs().max() == layer.attention_weights.weight.abs().max() == 0
