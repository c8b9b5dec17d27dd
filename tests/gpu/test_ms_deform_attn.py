# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels of ms_deform_attn on a GPU. Everywhere else they are skipped, and run by the emulator instead."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.kernels.cases import (
    NUM_PIXELS,
    SHAPES,
    TYPES,
    assert_close,
    expected,
    inputs,
    name_of,
    random_grad_output,
)
from unisegment.layers.ms_deform_attn import MSDeformAttn
from unisegment.ops.kernel_backend import describe_backend, find_kernel
from unisegment.ops.kernel_build import NAMESPACE
from unisegment.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_fused

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
FUSED = pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])


def on_gpu(arguments, device="cuda"):
    return [tensor.to(device) if isinstance(tensor, torch.Tensor) else tensor for tensor in arguments]


def native(arguments):
    function = ms_deform_attn_fused if len(arguments) == 5 else ms_deform_attn
    return function(*arguments, backend="native")


def forward_and_backward(arguments, grad_output, device="cuda", function=native):
    """Return the output, and the gradients of value, points and weights."""
    value, shapes, *parameters = on_gpu(arguments, device)
    leaves = [tensor.requires_grad_() for tensor in (value, *parameters)]
    output = function([leaves[0], shapes, *leaves[1:]])
    output.backward(grad_output.to(device))
    return output.detach(), [leaf.grad for leaf in (leaves[0], *leaves[-2:])]


def check(arguments, device="cuda", function=native):
    grad_output = random_grad_output(arguments)
    wanted, wanted_gradients = expected(arguments, grad_output)
    output, gradients = forward_and_backward(arguments, grad_output, device, function)
    assert output.device.index == (torch.device(device).index or 0)
    assert_close(output.cpu(), wanted, output.dtype)
    for gradient, wanted_gradient in zip(gradients, wanted_gradients, strict=True):
        assert_close(gradient.cpu(), wanted_gradient, gradient.dtype)


@pytest.mark.parametrize("num_queries", [13, NUM_PIXELS])
@pytest.mark.parametrize("head_dim", [8, 32, 40, 64])
@FUSED
@pytest.mark.parametrize("types", TYPES, ids=name_of)
def test_equals_the_reference(types, fused, head_dim, num_queries):
    check(inputs(types, fused, head_dim, num_queries=num_queries))


@FUSED
@pytest.mark.parametrize("types", [TYPES[0], TYPES[3], TYPES[5]], ids=name_of)
def test_most_samples_of_all(types, fused):
    """With doubles, backward and fused, these need more shared memory than a kernel gets without asking."""
    check(inputs(types, fused, shapes=[(2, 3), (5, 1)] * 4, num_points=16, num_queries=67))


def test_equals_the_reference_at_the_size_of_an_image():
    shapes = [(67, 101), (34, 51), (17, 26)]
    num_pixels = sum(height * width for height, width in shapes)
    check(inputs(TYPES[0], True, num_heads=8, shapes=shapes, num_queries=num_pixels, batch_size=1))


@FUSED
def test_derivatives_are_those_of_the_function(fused):
    value, shapes, *parameters = on_gpu(inputs(TYPES[5], fused, 8, num_heads=2, num_queries=3, batch_size=1))
    leaves = [tensor.requires_grad_() for tensor in (value, *parameters)]
    # Sums whose order differs from run to run.
    assert torch.autograd.gradcheck(
        lambda value, *others: native([value, shapes, *others]), leaves, fast_mode=True, nondet_tol=1e-10
    )


@FUSED
@pytest.mark.parametrize("types", [TYPES[0], TYPES[3]], ids=name_of)
def test_operators_keep_torchs_rules(types, fused):
    arguments = on_gpu(inputs(types, fused))
    arguments[1] = [size for height_and_width in arguments[1] for size in height_and_width]
    operators = torch.ops.unisegment_ms_deform_attn
    native(on_gpu(inputs(types, fused)))  # loads them
    name = "ms_deform_attn_fused" if fused else "ms_deform_attn"
    gradient = random_grad_output(arguments).cuda()
    backward = getattr(operators, f"{name}_backward").default
    torch.library.opcheck(backward, (gradient, *arguments), rtol=1e-2, atol=1e-2)
    for tensor in (arguments[0], *arguments[2:]):
        tensor.requires_grad_()
    torch.library.opcheck(getattr(operators, name).default, tuple(arguments), rtol=1e-2, atol=1e-2)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # which inductor calls
@FUSED
def test_compiles_in_one_piece(fused):
    torch.compiler.reset()
    check(inputs(TYPES[0], fused), function=torch.compile(native, fullgraph=True))
    torch.compiler.reset()


@FUSED
@pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"num_queries": 0}], ids=str)
def test_nothing_in_nothing_out(fused, sizes):
    arguments = inputs(TYPES[0], fused, **sizes)
    output, gradients = forward_and_backward(arguments, random_grad_output(arguments))
    assert output.numel() == 0
    assert not any(gradient.count_nonzero() for gradient in gradients)


@FUSED
@pytest.mark.parametrize("types", [TYPES[0], TYPES[3]], ids=name_of)
def test_any_memory(types, fused):
    """Strided, and contiguous but beginning in the middle of a vector."""
    value, shapes, *parameters = on_gpu(inputs(types, fused))
    wanted = native([value, shapes, *parameters])
    strided = [tensor.mT.contiguous().mT for tensor in (value, *parameters)]
    shifted = [
        torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape) for tensor in (value, *parameters)
    ]
    for tensors in (strided, shifted):
        assert torch.equal(native([tensors[0], shapes, *tensors[1:]]), wanted)


def test_auto_takes_it():
    arguments = on_gpu(inputs(TYPES[1], True))
    assert torch.equal(ms_deform_attn_fused(*arguments), native(arguments))
    assert "cuda:0 native" in dict(describe_backend())["kernel_on_gpus"]


@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16], ids=str)
def test_a_layer_learns_the_same(autocast, monkeypatch):
    layer = MSDeformAttn(96, num_heads=3, num_levels=3, num_points=4).cuda()
    for parameter in layer.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    query, value = torch.randn(2, NUM_PIXELS, 96, device="cuda"), torch.randn(2, NUM_PIXELS, 96, device="cuda")
    reference_points = torch.rand(2, NUM_PIXELS, 3, 2, device="cuda")
    results = []
    for backend in ("native", "torch"):
        monkeypatch.setenv("UNISEGMENT_KERNELS", backend)
        layer.zero_grad()
        with torch.autocast("cuda", autocast, enabled=autocast is not None):
            output = layer(query, reference_points, value, SHAPES).float()
        output.square().sum().backward()
        results.append([output, *(parameter.grad for parameter in layer.parameters())])
    # In 16 bits the two round at different places.
    tolerance = 2e-2 if autocast else 1e-4
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


@FUSED
def test_all_but_the_gradient_of_values_is_the_same_in_every_run(fused):
    """That gradient is a sum of atomic additions: the last bits depend on their order."""
    arguments = inputs(TYPES[0], fused, num_queries=NUM_PIXELS)
    grad_output = random_grad_output(arguments)
    runs = [forward_and_backward(arguments, grad_output) for _ in range(3)]
    for output, (grad_value, *gradients) in runs[1:]:
        assert torch.equal(output, runs[0][0])
        for gradient, first in zip(gradients, runs[0][1][1:], strict=True):
            assert torch.equal(gradient, first)
        torch.testing.assert_close(grad_value, runs[0][1][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["native", "torch"])
@FUSED
def test_deterministic_mode_raises_as_for_torchs_grid_sample(fused, backend):
    def function(arguments):
        return (ms_deform_attn_fused if fused else ms_deform_attn)(*arguments, backend=backend)

    arguments = inputs(TYPES[0], fused)
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
            forward_and_backward(arguments, random_grad_output(arguments), function=function)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="does not have a deterministic implementation"):
            forward_and_backward(arguments, random_grad_output(arguments), function=function)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two CUDA devices")
def test_runs_on_the_device_of_its_tensors():
    assert torch.cuda.current_device() == 0
    check(inputs(TYPES[0], True), device="cuda:1")
    assert torch.cuda.current_device() == 0


def test_runs_on_the_current_stream_and_in_graphs():
    arguments = inputs(TYPES[0], True)
    wanted, _ = expected(arguments, random_grad_output(arguments))
    value, *others = on_gpu(arguments)
    later = torch.zeros_like(value)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # the kernel must wait for what its own stream does before
        later.copy_(value)
        output = native([later, *others])
    stream.synchronize()
    assert_close(output.cpu(), wanted)

    graph = torch.cuda.CUDAGraph()
    later.zero_()
    with torch.cuda.graph(graph):
        output = native([later, *others])
    later.copy_(value)
    graph.replay()
    assert_close(output.cpu(), wanted)


@FUSED
def test_more_elements_than_32_bits_count(fused):
    if torch.cuda.mem_get_info()[0] < 40 << 30:
        pytest.skip("less than 40 GiB are free")
    height, width, rows = 1500, 2803, 8
    value = torch.zeros(2, height * width, 8, 32, dtype=torch.bfloat16, device="cuda")
    assert value.numel() > 2**31
    # All points lie in the last rows of the last image: a map of these rows alone gives the same.
    part, _, points, *parameters = inputs(TYPES[4], fused, num_heads=8, shapes=[(rows, width)], batch_size=1)
    points = points.clamp(0.5, 1)
    if fused:
        parameters[0] = parameters[0].clamp(-3, 3)  # pixels, from reference points
    value[1, -rows * width :] = part[0].cuda()
    value.requires_grad_()
    scaled = points.clone()
    scaled[..., 1] = (points[..., 1] * rows + height - rows) / height
    both = [torch.cat([tensor, tensor]).cuda() for tensor in (scaled, *parameters)]
    output = native([value, [(height, width)], *both])
    output.float().sum().backward()
    # One step of float32 at a height of 1500 is 1e-4 pixels.
    arguments = (part, [(rows, width)], points, *parameters)
    wanted, (grad_value, *_) = expected(arguments, torch.ones(1, 13, 256))
    torch.testing.assert_close(output[1:].double().cpu(), wanted, rtol=2**-8, atol=1e-2)
    assert output[0].count_nonzero() == 0
    actual = value.grad[1, -rows * width :].double().cpu()
    torch.testing.assert_close(actual, grad_value[0], rtol=2**-8, atol=1e-2)
    assert value.grad[1, : -rows * width].count_nonzero() == 0


# Names of our kernels, as they are written and as they are mangled, hold this. Of initcheck all kernels, or else what
# torch fills would count as never written.
OURS = ("--kernel-name", "kns=ms_deform_attn")


@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="compute-sanitizer was not found")
@pytest.mark.parametrize(
    ("tool", "options"), [("memcheck", OURS), ("racecheck", OURS), ("synccheck", OURS), ("initcheck", ())]
)
def test_sanitizer_finds_nothing(tool, options):
    script = Path(__file__).parents[2] / "benchmarks" / "gpu_report" / "small_case.py"
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "3", "--report-api-errors", "no", *options]
    result = subprocess.run(
        [*command, sys.executable, str(script), str(find_kernel().library), NAMESPACE],
        capture_output=True,
        text=True,
        check=False,
        # torch's allocator hands out slices of large blocks, within which nothing would be out of bounds.
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    assert result.stdout.count("done: ") == 4
