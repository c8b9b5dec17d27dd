# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels of ms_deform_attn, run on the CPU by the emulator, against the reference in float64."""

import ctypes
import mmap

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
        {"num_heads": 4, "num_points": 6},
    ],
    ids=["one query", "one pixel", "most samples", "a tail", "width 40", "two pairs of heads"],
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


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("types", TYPES, ids=name_of)
def test_places_of_two_floats(emulate, types, fused):
    check(emulate, inputs(types, fused, num_heads=2), double_places=False)


@pytest.mark.parametrize("types", TYPES[:5], ids=name_of)
def test_additions_fill_whole_sectors(emulator_library, emulate, types):
    """The gradient of a pixel's 32 channels is 128 bytes, which are four sectors of the L2 cache."""
    arguments = inputs(types, fused=False, num_heads=2, shapes=[(7, 11), (3, 5)])
    arguments[2].mul_(0.2).add_(0.4)  # no corner is outside
    run(emulate, arguments, random_grad_output(arguments))
    count = ctypes.CDLL(str(emulator_library)).reduction_sectors
    count.restype = ctypes.c_int64
    num_samples = arguments[-1].numel()
    assert count() == num_samples * 4 * 4


@pytest.mark.parametrize("where", [0, 0.5])
def test_infinite_values_are_seen_by_the_samples_that_touch_them(emulate, where):
    """And by no other: not by one at the border, whose corners outside count as zero, nor by one far away."""
    value = torch.zeros(1, 6, 1, 32)
    value[0, 0] = torch.inf
    points = torch.tensor([[where / 3 - 0.1, 0.25], [7.0, 0.25], [0.9, 0.75]]).view(1, 3, 1, 1, 1, 2)
    output = run(emulate, (value, [(2, 3)], points, torch.ones(1, 3, 1, 1, 1)))[0][0]
    assert (output[0] == torch.inf).all()
    assert (output[1:] == 0).all()


MAP_NORESERVE = 0x4000  # of Linux; Python does not name it


def sparse(*shape):
    """Return zeros that take memory only where they are touched."""
    memory = mmap.mmap(-1, 4 * torch.Size(shape).numel(), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    return torch.frombuffer(memory, dtype=torch.float32).view(shape)


@pytest.mark.parametrize("double_places", [True, False])
@pytest.mark.parametrize("shape", [(2**14, 2**14 + 1), (1, 2**24 + 5)], ids=["offsets", "sides"])
def test_sizes_beyond_32_bits(emulate, shape, double_places):
    """More accesses of four numbers than 2^31, and a side that no float can hold: the general kernel takes both."""
    height, width = shape
    value, grad_value = sparse(1, height * width, 1, 32), sparse(1, height * width, 1, 32)
    value[0, -2:] = torch.randn(2, 1, 32)
    last_row = torch.tensor([1.0, 1.0]).view(1, 1, 1, 2)
    offsets = torch.tensor([-0.75, -0.5]).view(1, 1, 1, 1, 1, 2)  # from the far corner: ¾ of the last pixel
    arguments = value, [shape], last_row, offsets, torch.zeros(1, 1, 1, 1, 1)
    output = run(emulate, arguments, double_places=double_places)[0][0, 0]
    before, last = value[0, -2:, 0]
    torch.testing.assert_close(output, 0.25 * before + 0.75 * last)
    grad_output = torch.randn(1, 1, 32)
    grad_offsets = run(emulate, arguments, grad_output, double_places=double_places, grad_value=grad_value)[1]
    torch.testing.assert_close(grad_value[0, -2:, 0], torch.tensor([[0.25], [0.75]]) * grad_output[0])
    torch.testing.assert_close(grad_offsets.flatten()[0], (last - before) @ grad_output[0, 0])
