# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention

from unisegment.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_fused

SHAPES = [(3, 5), (7, 4), (1, 2)]


def inputs(dtype=torch.float64, num_heads=3, head_dim=5, num_queries=7, num_points=2, batch_size=2):
    value = torch.randn(batch_size, sum(h * w for h, w in SHAPES), num_heads, head_dim, dtype=dtype)
    locations = torch.rand(batch_size, num_queries, num_heads, len(SHAPES), num_points, 2, dtype=dtype) * 1.4 - 0.2
    weights = torch.rand(batch_size, num_queries, num_heads, len(SHAPES), num_points, dtype=dtype)
    return value, SHAPES, locations, weights


def naive(value, spatial_shapes, locations, weights):
    """Write the definition out: one output value at a time, one neighbouring pixel at a time."""
    batch_size, _, num_heads, head_dim = value.shape
    num_queries = locations.shape[1]
    output = torch.zeros(batch_size, num_queries, num_heads, head_dim, dtype=value.dtype)
    for b in range(batch_size):
        for q in range(num_queries):
            for m in range(num_heads):
                start = 0
                for level, (height, width) in enumerate(spatial_shapes):
                    for p in range(locations.shape[4]):
                        x = locations[b, q, m, level, p, 0].item() * width - 0.5
                        y = locations[b, q, m, level, p, 1].item() * height - 0.5
                        for row in (math.floor(y), math.floor(y) + 1):
                            for column in (math.floor(x), math.floor(x) + 1):
                                if 0 <= row < height and 0 <= column < width:
                                    share = (1 - abs(y - row)) * (1 - abs(x - column)) * weights[b, q, m, level, p]
                                    output[b, q, m] += share * value[b, start + row * width + column, m]
                    start += height * width
    return output.flatten(2)


def test_equals_the_definition():
    arguments = inputs()
    torch.testing.assert_close(ms_deform_attn(*arguments), naive(*arguments))


def test_equals_transformers_forward_and_backward():
    value, shapes, locations, weights = inputs()
    results = []
    for function in (ms_deform_attn, multi_scale_deformable_attention):
        leaves = [tensor.clone().requires_grad_() for tensor in (value, locations, weights)]
        output = function(leaves[0], shapes, leaves[1], leaves[2])
        output.square().sum().backward()
        results.append([output, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_fused_takes_offsets_in_pixels_and_weights_before_softmax():
    value, shapes, _, logits = inputs()
    reference_points = torch.rand(2, 7, 3, 2, dtype=torch.float64)
    offsets = torch.randn(2, 7, 3, 3, 2, 2, dtype=torch.float64)
    sizes = torch.tensor([(w, h) for h, w in shapes], dtype=torch.float64)
    locations = reference_points[:, :, None, :, None] + offsets / sizes[None, None, None, :, None]
    weights = logits.flatten(3).softmax(-1).view_as(logits)
    fused = ms_deform_attn_fused(value, shapes, reference_points, offsets, logits)
    torch.testing.assert_close(fused, naive(value, shapes, locations, weights))


def test_half_precision_keeps_its_coordinates():
    # A ramp of 333 pixels: the value found is the position itself, so a coordinate in bfloat16 would be off by pixels.
    width = 333
    value = torch.arange(width, dtype=torch.float32)[None, :, None, None] / width
    reference_points = torch.rand(1, 64, 1, 2) * 0.9 + 0.05
    reference_points[..., 1] = 0.5
    offsets, logits = torch.zeros(1, 64, 1, 1, 1, 2), torch.zeros(1, 64, 1, 1, 1)
    exact = ms_deform_attn_fused(value, [(1, width)], reference_points, offsets, logits)
    half = ms_deform_attn_fused(value.bfloat16(), [(1, width)], reference_points, offsets.bfloat16(), logits.bfloat16())
    assert half.dtype == torch.bfloat16
    # What is left is the rounding of values in [0, 1] (2^-9) and of the result.
    assert (half.float() - exact).abs().max() <= 2**-8 + 1e-3


def test_empty_batches_and_no_queries_give_empty_results():
    assert ms_deform_attn(*inputs(batch_size=0)).shape == (0, 7, 15)
    assert ms_deform_attn(*inputs(num_queries=0)).shape == (2, 0, 15)


def test_non_contiguous_inputs_are_read_right():
    value, shapes, locations, weights = inputs()
    expected = ms_deform_attn(value, shapes, locations, weights)
    strided = value.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    torch.testing.assert_close(ms_deform_attn(strided, shapes, locations, weights), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, s, x, w: (v[:, :-1], s, x, w), "areas of spatial_shapes must add up"),
        (lambda v, s, x, w: (v, s[:-1], x, w), "one entry per level"),
        (lambda v, s, x, w: (v, s, x, w[:, :-1]), "attention_weights must have the shape"),
        (lambda v, s, x, w: (v[:1], s, x, w), "agree in batch and heads"),
        (lambda v, s, x, w: (v[0], s, x, w), r"Expected value \(b s m d\)"),
        (lambda v, s, x, w: (v, s, x, w.to("meta")), "must be on one device"),
        (lambda v, s, x, w: (v.long(), s, x, w), "must hold floats: value .* int64 on cpu"),
    ],
)
def test_wrong_shapes_are_printed(change, message):
    with pytest.raises(ValueError, match=message) as raised:
        ms_deform_attn(*change(*inputs()))
    assert "sampling_locations (2, 7, 3, 3, 2, 2)" in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, s, r, o, a: (v, s, r[:, :, :2], o, a), r"reference_points must be \(b q l 2\)"),
        (lambda v, s, r, o, a: (v, s, r[:, 0], o, a), r"reference_points must be \(b q l 2\)"),
        (lambda v, s, r, o, a: (v, s, r, o, a[..., :1]), "attention_logits must have the shape of sampling_offsets"),
        (lambda v, s, r, o, a: (v, s, r, o[:, :, :2], a), "attention_logits must have the shape of sampling_offsets"),
        (lambda v, s, r, o, a: (v, s[:-1], r, o, a), "sampling_offsets must have one entry per level"),
    ],
)
def test_wrong_shapes_are_printed_by_the_fused_function_too(change, message):
    value, shapes, offsets, logits = inputs()
    reference_points = torch.rand(2, 7, 3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=message) as raised:
        ms_deform_attn_fused(*change(value, shapes, reference_points, offsets, logits))
    assert "value (2, 45, 3, 5) float64 on cpu" in str(raised.value)


def test_backends(monkeypatch):
    arguments = inputs()
    torch.testing.assert_close(ms_deform_attn(*arguments, backend="torch"), naive(*arguments))
    with pytest.raises(ValueError, match="backend takes auto, native or torch, got 'cuda'"):
        ms_deform_attn(*arguments, backend="cuda")
    # A head of 5 channels is none for the kernel, if there is one at all.
    torch.testing.assert_close(ms_deform_attn(*arguments), naive(*arguments))
    with pytest.raises(RuntimeError, match="The compiled ms_deform_attn kernel is demanded"):
        ms_deform_attn(*arguments, backend="native")
    monkeypatch.setenv("UNISEGMENT_KERNELS", "native")
    with pytest.raises(RuntimeError, match="The compiled ms_deform_attn kernel is demanded"):
        ms_deform_attn(*arguments)
    torch.testing.assert_close(ms_deform_attn(*arguments, backend="torch"), naive(*arguments))
