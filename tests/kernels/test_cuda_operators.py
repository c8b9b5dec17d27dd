# SPDX-License-Identifier: Apache-2.0
"""The CUDA operators as torch sees them, with emulated kernels: checks, memory, order of arguments, derivatives."""

import importlib.util
import sys
from types import ModuleType

import pytest
import torch

from tests.kernels.emulation import KERNEL, NAMESPACE
from unisegment.ops import ms_deform_attn as reference

SHAPES = [(3, 5), (2, 1)]


@pytest.fixture(scope="module")
def kernel(emulator_library):
    """Return the Python package around the operators, as the Hub and the wheel have it, around the emulated ones."""
    operators = ModuleType(f"{NAMESPACE}._ops")
    operators.ops = getattr(torch.ops, NAMESPACE)
    operators.add_op_namespace_prefix = lambda name: f"{NAMESPACE}::{name}"
    folder = KERNEL / "torch-ext" / "unisegment_ms_deform_attn"
    spec = importlib.util.spec_from_file_location(
        NAMESPACE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules |= {NAMESPACE: module, operators.__name__: operators}
    spec.loader.exec_module(module)
    return module


def inputs(name, dtype=torch.float32, num_queries=4):
    """Return the arguments of a function but for the shapes, which come second."""
    value = torch.randn(2, 17, 3, 8, dtype=dtype)
    samples = (2, num_queries, 3, 2, 5)
    if name == "ms_deform_attn":
        return value, torch.rand(*samples, 2, dtype=dtype) * 1.4 - 0.2, torch.rand(samples, dtype=dtype)
    points = torch.rand(2, num_queries, 2, 2, dtype=dtype)
    return value, points, 2 * torch.randn(*samples, 2, dtype=dtype), torch.randn(samples, dtype=dtype)


FUNCTIONS = pytest.mark.parametrize("name", ["ms_deform_attn", "ms_deform_attn_fused"])


@FUNCTIONS
@pytest.mark.parametrize("num_queries", [17, 4])
def test_equals_the_reference_forward_and_backward(kernel, name, num_queries):
    results = []
    for function, options in ((getattr(kernel, name), {}), (getattr(reference, name), {"backend": "torch"})):
        torch.manual_seed(0)
        leaves = [tensor.requires_grad_() for tensor in inputs(name, num_queries=num_queries)]
        output = function(leaves[0], SHAPES, *leaves[1:], **options)
        output.square().sum().backward()
        results.append([output, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_layer_for_the_hub_runs_the_operator_of_points(kernel):
    """In a library without code for CPUs, as this one is but for its emulator."""
    assert not hasattr(torch.ops.ms_deform_attn_emulated, "cpu_capability")
    value, locations, weights = inputs("ms_deform_attn")
    layer = kernel.layers.MultiScaleDeformableAttention()
    found = layer(value, torch.tensor(SHAPES), SHAPES, torch.tensor([0, 15]), locations, weights, 64)
    assert torch.equal(found, kernel.ms_deform_attn(value, SHAPES, locations, weights))


@FUNCTIONS
def test_derivatives_are_those_of_the_function(kernel, name):
    leaves = [tensor.requires_grad_() for tensor in inputs(name, torch.float64, num_queries=2)]
    assert torch.autograd.gradcheck(
        lambda value, *others: getattr(kernel, name)(value, SHAPES, *others), leaves, fast_mode=True
    )


@FUNCTIONS
def test_bfloat16_gradients_of_values_are_summed_in_float32(kernel, name):
    value, *others = inputs(name)
    grads = []
    for dtype in (torch.bfloat16, torch.float64):
        leaf = value.bfloat16().to(dtype).requires_grad_()
        parameters = [tensor.to(torch.promote_types(dtype, torch.float32)) for tensor in others]
        getattr(kernel, name)(leaf, SHAPES, *parameters).sum().backward()
        grads.append(leaf.grad)
    assert grads[0].dtype == torch.bfloat16
    torch.testing.assert_close(grads[0].double(), grads[1], rtol=2**-8, atol=1e-5)


@FUNCTIONS
def test_memory_that_starts_within_a_vector(kernel, name):
    arguments = inputs(name)
    shifted = [torch.cat([torch.zeros(1), tensor.flatten()])[1:].view(tensor.shape) for tensor in arguments]
    function = getattr(kernel, name)
    assert torch.equal(function(arguments[0], SHAPES, *arguments[1:]), function(shifted[0], SHAPES, *shifted[1:]))


@FUNCTIONS
@pytest.mark.parametrize("empty", ["batch", "queries"])
def test_nothing_in_nothing_out(kernel, name, empty):
    leaves = [
        (tensor[:0] if empty == "batch" else tensor if i == 0 else tensor[:, :0]).requires_grad_()
        for i, tensor in enumerate(inputs(name))
    ]
    output = getattr(kernel, name)(leaves[0], SHAPES, *leaves[1:])
    assert output.shape == ((0, 4, 24) if empty == "batch" else (2, 0, 24))
    output.sum().backward()
    assert leaves[0].grad.count_nonzero() == 0


def test_errors_name_the_shapes(kernel):
    value, locations, weights = inputs("ms_deform_attn")
    with pytest.raises(RuntimeError, match=r"multiple of 8.*\(2, 17, 3, 7\)"):
        kernel.ms_deform_attn(value[..., :7], SHAPES, locations, weights)
    many = torch.cat([locations] * 4, 4), torch.cat([weights] * 4, 4)
    with pytest.raises(RuntimeError, match=r"1 to 16 points.*\(2, 4, 3, 2, 20, 2\)"):
        kernel.ms_deform_attn(value, SHAPES, *many)
    with pytest.raises(RuntimeError, match="areas"):
        kernel.ms_deform_attn(value, [(3, 5), (2, 2)], locations, weights)
