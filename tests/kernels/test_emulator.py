# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels of ms_deform_attn, run on the CPU by the emulator, against the reference in float64."""

import pytest
import torch

from tests.kernels.cases import NUM_PIXELS, TYPES, assert_close, expected, inputs, name_of, random_grad_output
from tests.kernels.emulation import run
from unisegment.ops.ms_deform_attn import ms_deform_attn


def check(emulate, arguments, **options):
    value, points = arguments[0], arguments[-2]
    grad_output = random_grad_output(arguments)
    output, gradients = expected(arguments, grad_output)
    assert_close(run(emulate, arguments, **options)[0], output, value.dtype)
    grad_value, *others = run(emulate, arguments, grad_output, **options)
    assert_close(grad_value, gradients[0])  # is not rounded before it is whole
    for actual, wanted in zip(others, gradients[1:], strict=True):
        assert_close(actual, wanted, points.dtype)


@pytest.mark.parametrize("head_dim", [8, 32, 64])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("types", TYPES, ids=name_of)
def test_equals_the_reference(emulate, types, fused, head_dim):
    check(emulate, inputs(types, fused, head_dim, num_heads=2))


@pytest.mark.parametrize("queries_are_pixels", [True, False])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("types", [TYPES[0], TYPES[3]], ids=["float32", "bfloat16"])
def test_every_query_has_its_place_in_a_tile(emulate, types, fused, queries_are_pixels):
    arguments = inputs(types, fused, num_queries=NUM_PIXELS)
    check(emulate, arguments, queries_are_pixels=queries_are_pixels)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"shapes": [(5, 3)], "num_points": 1, "num_queries": 1, "num_heads": 1, "batch_size": 1},
        {"shapes": [(1, 1)], "num_points": 3, "num_queries": 1, "num_heads": 5, "batch_size": 3},
        {"shapes": [(2, 3), (5, 1)] * 4, "num_points": 16, "num_queries": 3, "num_heads": 2, "batch_size": 1},
        {"shapes": [(13, 7)], "num_points": 5, "num_queries": 131, "num_heads": 1, "batch_size": 1},
        {"head_dim": 40},
    ],
    ids=["one query", "one pixel", "most samples", "a tail", "width 40"],
)
@pytest.mark.parametrize("types", [TYPES[0], TYPES[4]], ids=["float32", "bfloat16"])
def test_any_sizes(emulate, types, sizes, fused):
    check(emulate, inputs(types, fused, **sizes))


def test_points_on_the_border_and_beyond(emulate):
    shapes = [(3, 5)]
    steps = torch.tensor([-1e9, -1.0, -0.5, -0.1, 0.0, 0.1, 0.5, 0.9, 1.0, 1.1, 1.5, 2.0, 1e9])
    value = torch.randn(1, 15, 1, 32)
    locations = torch.cartesian_prod(steps, steps).view(1, 169, 1, 1, 1, 2)
    weights = torch.rand(1, 169, 1, 1, 1)
    wanted = ms_deform_attn(value.double(), shapes, locations.double(), weights.double(), backend="torch")
    assert_close(run(emulate, (value, shapes, locations, weights))[0], wanted)


def test_points_that_are_no_numbers_count_as_outside(emulate):
    value, shapes, locations, weights = inputs(TYPES[0], fused=False)
    weights[:, 3] = 0
    wanted = ms_deform_attn(value, shapes, locations, weights, backend="torch")
    weights[:, 3] = 1
    locations[:, 3] = torch.tensor([torch.nan, torch.inf])
    assert_close(run(emulate, (value, shapes, locations, weights))[0], wanted.double())


def test_softmax_of_large_logits(emulate):
    *others, logits = inputs(TYPES[0], fused=True)
    check(emulate, (*others, logits * 100 + 1e4))


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_order_of_lanes_does_not_matter(emulate, fused):
    arguments = inputs(TYPES[3], fused)
    check(emulate, arguments, last_lane_first=True)
