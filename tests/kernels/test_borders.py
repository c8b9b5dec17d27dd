# SPDX-License-Identifier: Apache-2.0
"""Samples on, beside and far beyond the borders of a level, in every compiled form, against plain PyTorch in float64.

Values lie between numbers that are none, so a read outside of them shows in a result. `make test-asan` runs this too.
"""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kernels.cases import PRECISION, ROUNDING, TYPES, name_of
from tests.kernels.emulation import GUARD, run
from unisegment.ops.kernel_backend import find_kernel
from unisegment.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_fused

SMALL = 1e-7  # of a pixel: on which side of a pixel's centre a sample lies decides about its slope

# Where a sample is along one axis: a fraction of the level's length and pixels from there, a small number more in
# either of them, and where its reference point is.
FRACTIONS = [(0, -1), (0, -0.5), (0, 0), (0.5, 0), (1, -1), (1, -0.5), (1, 0), (1, 1)]
WILD = [math.nan, math.inf, -math.inf, 1e300, -1e18, 2.0**31, -(2.0**32)]
PLACES = st.tuples(
    st.sampled_from([*FRACTIONS, *((0, far) for far in WILD)]),
    st.tuples(st.sampled_from([-1, 0, 1]), st.integers(1, 60)),
    st.sampled_from(["reference", "position"]),
    st.sampled_from([0, 0.25, 0.5, 1, 1 / 3]),
)
SHAPES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=2)
# The last number below the far border, one more than which is not the next but another.
BELOW_FLOAT64 = [((0, 0), (0, 1), "position", 0.5), ((1, 0), (-1, 53), "position", 0.5)]
BELOW_FLOAT32 = [((0, 0), (0, 1), "position", 0.25), ((1, 0), (-1, 53), "reference", 0)]


# Every compiled form, with a head width. The emulated kernels for 32 channels take other ways to the same result.
FORMS = {
    "default": 8,
    "avx2": 8,
    "avx512": 8,
    "emulator": 8,
    "emulator, 32 channels": 32,
    "emulator, places of two floats": 32,
}


@pytest.fixture(scope="module", params=FORMS)
def form(request):
    """Return a function from arguments and the gradient of an output to the output and the gradients, and its width."""
    head_dim = FORMS[request.param]
    if request.param.startswith("emulator"):
        emulate = request.getfixturevalue("emulate")
        options = {"double_places": "two floats" not in request.param}
        yield (
            lambda arguments, grad: [*run(emulate, arguments, **options), *run(emulate, arguments, grad, **options)],
            head_dim,
        )
        return
    kernel = find_kernel()
    if isinstance(kernel, str):
        pytest.skip(kernel)
    best = kernel.functions.cpu_capability()
    try:
        kernel.functions.set_cpu_capability(request.param)
    except RuntimeError as error:
        pytest.skip(str(error))
    yield lambda arguments, grad: on_cpu(kernel.functions, arguments, grad), head_dim
    kernel.functions.set_cpu_capability(best)


def on_cpu(functions, arguments, grad_output):
    value, shapes, *parameters = arguments
    leaves = [tensor.detach().requires_grad_() for tensor in (value, parameters[-2], parameters[-1])]
    function = functions.ms_deform_attn_fused if len(parameters) == 3 else functions.ms_deform_attn
    output = function(leaves[0], shapes, *parameters[:-2], *leaves[1:])
    output.backward(grad_output)
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def between_nans(tensor):
    memory = torch.full((tensor.numel() + 2 * GUARD,), torch.nan, dtype=tensor.dtype)
    inside = memory[GUARD:-GUARD].view(tensor.shape)
    return inside.copy_(tensor)


def coordinates(place, length, fused):
    """Return a reference point and what is given beside it along one axis, as the operator takes them."""
    (fraction, pixels), (sign, exponent), moved, reference = place
    target, nudge = fraction * length + pixels, sign * 2.0**-exponent
    if not fused:
        return 0.0, (target + 0.5 + nudge) / length
    offset = target - (reference * length - 0.5)
    return (reference + nudge, offset) if moved == "reference" else (reference, offset + nudge)


def make_arguments(types, fused, shapes, samples, head_dim):
    """Return what the operator takes: a query with two points on each level for each sample, which is (x, y)."""
    value_type, parameter_type = types
    pairs = [
        [[coordinates(place, length, fused) for place, length in zip(sample, (w, h), strict=True)] for h, w in shapes]
        for sample in samples
    ]
    references, positions = torch.tensor(pairs, dtype=torch.float64).unbind(-1)  # q l 2
    positions = torch.stack([positions, positions.flip(0)], 2)  # q l p 2
    positions = positions[None, :, None].repeat(1, 1, 2, 1, 1, 1).to(parameter_type)
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(1, sum(h * w for h, w in shapes), 2, head_dim, generator=generator).to(value_type)
    weights = torch.randn(positions.shape[:-1], generator=generator).to(parameter_type)
    reference_points = (
        [references[None].contiguous().to(torch.promote_types(value_type, torch.float32))] if fused else []
    )
    return [between_nans(value), shapes, *reference_points, positions, weights]


def truth(arguments, grad_output):
    """Return output and gradients in float64, the latter for samples moved a little to each of four sides, too."""
    value, shapes, *references, positions, weights = arguments
    sides = torch.cartesian_prod(*[torch.tensor([-SMALL, SMALL], dtype=torch.float64)] * 2)
    moves = torch.cat([torch.zeros(1, 2, dtype=torch.float64), sides])[:, None, None, None, None]
    if not references:
        moves = moves / torch.tensor([(w, h) for h, w in shapes])[:, None]
    far = torch.where(positions.isfinite(), positions.double(), 1e9)  # what is nowhere counts as nothing
    leaves = [value.double().repeat(5, 1, 1, 1), far + moves, weights.double().repeat(5, 1, 1, 1, 1)]
    for leaf in leaves:
        leaf.requires_grad_()
    function = ms_deform_attn_fused if references else ms_deform_attn
    references = [tensor.double().repeat(5, 1, 1, 1) for tensor in references]
    output = function(leaves[0], shapes, *references, *leaves[1:], backend="torch")
    output.backward(grad_output.double().repeat(5, 1, 1))
    grad_value, grad_positions, grad_weights = (leaf.grad for leaf in leaves)
    return output[:1].detach(), grad_value[:1], grad_positions[1:], grad_weights[:1]


def assert_near(found, wanted, head_dim):
    """Compare sums of numbers of about 1: a share of a pixel may be all that is left at a border, or nothing."""
    torch.testing.assert_close(found.double(), wanted, rtol=ROUNDING.get(found.dtype, 0), atol=PRECISION * head_dim / 8)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("types", TYPES, ids=name_of)
def test_equals_plain_pytorch_on_and_beyond_every_border(form, types, fused):
    results, head_dim = form

    @settings(derandomize=True, deadline=None, max_examples=12, database=None)
    @given(SHAPES, st.lists(st.tuples(PLACES, PLACES), min_size=1, max_size=12))
    @example([(1, 1)], [BELOW_FLOAT64])
    @example([(2, 2)], [BELOW_FLOAT32])
    @example([(2, 3), (4, 2)], [BELOW_FLOAT32, BELOW_FLOAT32[::-1], BELOW_FLOAT64])
    def check(shapes, samples):
        arguments = make_arguments(types, fused, shapes, samples, head_dim)
        generator = torch.Generator().manual_seed(1)
        grad_output = torch.randn(1, len(samples), 2 * head_dim, generator=generator).to(types[0])
        output, grad_value, grad_positions, grad_weights = results(arguments, grad_output)
        wanted = truth(arguments, grad_output)
        assert_near(output, wanted[0], head_dim)
        assert_near(grad_value, wanted[1], head_dim)
        assert_near(grad_weights, wanted[3], head_dim)
        # On a pixel's centre the slopes of both sides are right.
        side = (grad_positions.double() - wanted[2]).abs().argmin(0, keepdim=True)
        nearest = wanted[2].gather(0, side)
        assert_near(grad_positions, nearest, head_dim)

    check()
