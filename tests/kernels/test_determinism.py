# SPDX-License-Identifier: Apache-2.0
"""What `torch.use_deterministic_algorithms` does to gradients that are summed in any order; no tensor has contents."""

import importlib
import re
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode

from unisegment.ops.kernel_backend import find_kernel
from unisegment.ops.kernel_build import NAMESPACE

SHAPES = [(2, 3), (1, 5)]


@pytest.fixture
def wrapper():
    if isinstance(find_kernel(), str):
        pytest.skip(find_kernel())
    return importlib.import_module(NAMESPACE)


@pytest.fixture(params=[False, True], ids=["raises", "warns"])
def warn_only(request):
    torch.use_deterministic_algorithms(True, warn_only=request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


def backward(wrapper, form, device):
    """Do what autograd does in its backward pass."""
    with FakeTensorMode(), torch.device(device):
        value, points, weights = torch.rand(1, 11, 2, 8), torch.rand(1, 3, 2, 2, 4, 2), torch.rand(1, 3, 2, 2, 4)
        parameters = [points, weights] if form == "points" else [torch.rand(1, 3, 2, 2), points, weights]
        context = SimpleNamespace(
            saved_tensors=(value, *parameters),
            spatial_shapes=[size for shape in SHAPES for size in shape],
            needs_input_grad=[True] * 5,
        )
        run = wrapper._backward if form == "points" else wrapper._backward_fused
        gradient, *_ = run(context, torch.rand(1, 3, 16))
    assert (gradient.shape, gradient.device.type) == (value.shape, device)


def message_of_torch(warn_only):
    """Return what torch says of an operator of its own."""
    put = torch.zeros(3).put_
    arguments = torch.tensor([0]), torch.ones(1)
    if warn_only:
        with pytest.warns(UserWarning, match="put_") as caught:
            put(*arguments)
        return str(caught[0].message)
    with pytest.raises(RuntimeError) as caught:
        put(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(("form", "name"), [("points", "ms_deform_attn"), ("offsets", "ms_deform_attn_fused")])
def test_on_cuda_it_does_what_torch_does(wrapper, warn_only, form, name):
    said = f"{name}_backward does not have a deterministic implementation on CUDA, but you set "
    expected = pytest.warns(UserWarning, match=said) if warn_only else pytest.raises(RuntimeError, match=said)
    with expected as caught:
        backward(wrapper, form, "cuda")
    ours = str(caught[0].message if warn_only else caught.value)
    ours = ours.replace(f"{name}_backward", "put_").replace(" on CUDA", "")
    theirs = re.sub(r" You can (also )?file an issue.*", "", message_of_torch(warn_only), flags=re.DOTALL)
    assert theirs.startswith(ours)


@pytest.mark.parametrize("form", ["points", "offsets"])
def test_on_the_cpu_it_is_deterministic(wrapper, warn_only, form):
    backward(wrapper, form, "cpu")


@pytest.mark.parametrize("form", ["points", "offsets"])
def test_it_is_silent_unless_asked(wrapper, form):
    backward(wrapper, form, "cuda")
