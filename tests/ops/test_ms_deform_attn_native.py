# SPDX-License-Identifier: Apache-2.0
"""The compiled kernel against plain PyTorch in float64, which test_ms_deform_attn.py holds against the definition."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.library import opcheck
from transformers import ResNetConfig

from tests.models.model_tester import random_targets
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.layers.ms_deform_attn import MSDeformAttn
from unisegment.ops import kernel_backend
from unisegment.ops.kernel_backend import Kernel, find_kernel
from unisegment.ops.kernel_build import NAMESPACE
from unisegment.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_fused

SHAPES = [(3, 5), (7, 4), (1, 2), (2, 3), (5, 1), (1, 1), (4, 4), (2, 7)]
FUNCTIONS = {"points": ms_deform_attn, "offsets": ms_deform_attn_fused}
# Head width, levels, points.
CONFIGURATIONS = [(8, 1, 1), (16, 3, 4), (24, 8, 3), (32, 3, 4), (32, 8, 16), (40, 2, 5), (64, 4, 16)]


@pytest.fixture(autouse=True)
def kernel():
    found = find_kernel()
    if isinstance(found, str):
        pytest.skip(found)
    return found.functions


@pytest.fixture(params=["default", "avx2", "avx512"])
def instruction_set(request, kernel):
    best = kernel.cpu_capability()
    try:
        kernel.set_cpu_capability(request.param)
    except RuntimeError as error:
        pytest.skip(str(error))
    yield request.param
    kernel.set_cpu_capability(best)


def inputs(function, dtype=torch.float32, head_dim=16, num_levels=3, num_points=4, batch_size=2, num_queries=7):
    """Return arguments of one of the two functions, some points outside their map, none on the border of a pixel."""
    shapes = SHAPES[:num_levels]
    axes = (batch_size, num_queries, 3, num_levels, num_points)
    value = torch.randn(batch_size, sum(h * w for h, w in shapes), 3, head_dim)
    sizes_xy = torch.tensor([(w, h) for h, w in shapes])[:, None]
    positions = torch.rand(*axes, 2) * (sizes_xy + 3) - 2
    positions = positions.floor() + 0.1 + 0.8 * (positions - positions.floor())  # in pixels, centres being whole
    locations = (positions + 0.5) / sizes_xy
    if function == "points":
        tensors = [value, locations, torch.rand(*axes)]
    else:
        reference_points = torch.rand(batch_size, num_queries, num_levels, 2)
        offsets = (locations - reference_points[:, :, None, :, None]) * sizes_xy
        tensors = [value, reference_points, offsets, 2 * torch.randn(*axes)]
    value, *parameters = (tensor.to(dtype) for tensor in tensors)
    return [value, shapes, *parameters]


def results(function, arguments, backend, dtype=None):
    """Return the output, and the gradient of every tensor."""
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() if isinstance(x, torch.Tensor) else x for x in arguments]
    output = FUNCTIONS[function](*leaves, backend=backend)
    generator = torch.Generator().manual_seed(3)
    output.backward(torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype))
    return [output, *(leaf.grad for leaf in leaves if isinstance(leaf, torch.Tensor))]


def assert_near(found, truth, tolerance):
    for ours, exact in zip(found, truth, strict=True):
        assert ours.shape == exact.shape
        assert (ours.double() - exact).norm() <= tolerance * exact.norm()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("head_dim", "num_levels", "num_points"), CONFIGURATIONS)
def test_equals_plain_pytorch_on_every_instruction_set(function, head_dim, num_levels, num_points, instruction_set):
    arguments = inputs(function, head_dim=head_dim, num_levels=num_levels, num_points=num_points)
    truth = results(function, arguments, "torch", torch.float64)
    assert_near(results(function, arguments, "native"), truth, 1e-5)
    assert_near(results(function, arguments, "native", torch.float64), truth, 1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("parameters", [torch.float32, torch.bfloat16])
def test_bfloat16_is_computed_in_float32(function, parameters, instruction_set):
    value, shapes, *others = inputs(function, head_dim=32)
    if function == "points" and parameters == torch.bfloat16:
        # Rounded locations may lie on the border of a pixel, where the gradient jumps.
        others[0] = ((others[0] * 64).floor() + 0.5) / 64
    others[-2:] = [tensor.to(parameters) for tensor in others[-2:]]
    arguments = [value.bfloat16(), shapes, *others]
    found = results(function, arguments, "native")
    assert [tensor.dtype for tensor in found[1:]] == [x.dtype for x in arguments if isinstance(x, torch.Tensor)]
    assert found[0].dtype == torch.bfloat16
    assert_near(found, results(function, arguments, "torch", torch.float64), 1e-2)


def test_bfloat16_offsets_place_points_to_a_fiftieth_of_a_pixel():
    # Zeros and ones in turn: from one centre to the next the result goes from 0 to 1, so it is a position in pixels.
    width, num_queries = 333, 512
    value = (torch.arange(width) % 2).to(torch.bfloat16)[None, :, None, None].expand(1, -1, 1, 8)
    reference_points = torch.rand(1, num_queries, 1, 2) * 0.9 + 0.05
    reference_points[..., 1] = 0.5
    offsets = torch.rand(1, num_queries, 1, 1, 1, 2) * 16 - 8
    offsets[..., 1] = 0
    logits = torch.zeros(1, num_queries, 1, 1, 1)
    half = ms_deform_attn_fused(
        value, [(1, width)], reference_points, offsets.bfloat16(), logits.bfloat16(), backend="native"
    )
    exact = [tensor.double() for tensor in (reference_points, offsets, logits)]
    found = ms_deform_attn_fused(value.double(), [(1, width)], *exact, backend="torch")
    # Half a step of bfloat16 between 4 and 8 is 1/64 of a pixel; a result between 0.5 and 1 is rounded by 1/512.
    assert (half.double() - found).abs().max() <= 0.02


@pytest.mark.parametrize("function", FUNCTIONS)
def test_other_mixtures_of_types_are_cast(function):
    value, shapes, *parameters = inputs(function)
    for value_dtype, parameter_dtype in (
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
        (torch.bfloat16, torch.float64),
    ):
        arguments = [value.to(value_dtype), shapes, *(x.to(parameter_dtype) for x in parameters)]
        found, exact = (results(function, arguments, backend)[0] for backend in ("native", "torch"))
        assert found.dtype == value_dtype
        torch.testing.assert_close(found, exact)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradcheck(function):
    value, shapes, *others = inputs(function, torch.float64, head_dim=8, num_points=2, num_queries=3, batch_size=1)
    leaves = [tensor.requires_grad_() for tensor in (value, *others)]
    torch.autograd.gradcheck(lambda v, *rest: FUNCTIONS[function](v, shapes, *rest, backend="native"), leaves)


@pytest.mark.parametrize("name", ["ms_deform_attn", "ms_deform_attn_fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_operators_are_registered_as_torch_wants_them(name, dtype):
    value, shapes, *parameters = inputs("offsets" if name.endswith("fused") else "points", dtype)
    if name.endswith("fused") and dtype == torch.bfloat16:
        parameters[0] = parameters[0].float()
    flat = [number for size in shapes for number in size]
    leaves = [tensor.requires_grad_() for tensor in (value, *parameters)]
    opcheck(getattr(getattr(torch.ops, NAMESPACE), name).default, (leaves[0], flat, *leaves[1:]))
    gradient = torch.randn(2, 7, 48, dtype=dtype)
    detached = [tensor.detach() for tensor in leaves]
    backward = getattr(getattr(torch.ops, NAMESPACE), f"{name}_backward").default
    opcheck(backward, (gradient, detached[0], flat, *detached[1:]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # which inductor calls
@pytest.mark.parametrize(
    ("function", "options"),
    [
        *(
            (function, {"backend": "aot_eager", "dynamic": dynamic})
            for function in FUNCTIONS
            for dynamic in (False, True)
        ),
        # Around the other function inductor would have sums to compile, which takes long and rounds differently.
        ("points", {"backend": "inductor"}),
    ],
    ids=str,
)
def test_compiles_as_one_graph(function, options, monkeypatch):
    torch.compiler.reset()
    arguments = inputs(function)
    expected = results(function, arguments, "native")
    compiled = torch.compile(FUNCTIONS[function], fullgraph=True, **options)
    monkeypatch.setitem(FUNCTIONS, function, compiled)
    # Bit for bit: plain PyTorch would be near, only.
    for found, exact in zip(results(function, arguments, "native"), expected, strict=True):
        assert torch.equal(found, exact)
    torch.compiler.reset()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_there_is_no_second_derivative(function):
    value, *others = inputs(function)
    output = FUNCTIONS[function](value.requires_grad_(), *others, backend="native")
    (gradient,) = torch.autograd.grad(output.square().sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        gradient.sum().backward()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_strided_inputs_and_gradients_are_read_right(function):
    arguments = inputs(function)
    truth = results(function, arguments, "native")

    def strided(tensor):
        order = list(reversed(range(tensor.ndim)))
        return tensor.permute(order).contiguous().permute(order)

    leaves = [strided(x).requires_grad_() if isinstance(x, torch.Tensor) else x for x in arguments]
    output = FUNCTIONS[function](*leaves, backend="native")
    torch.testing.assert_close(output, truth[0], rtol=0, atol=0)
    # The gradient of a sum is one number, expanded.
    output.sum().backward()
    whole = [x.detach().requires_grad_() if isinstance(x, torch.Tensor) else x for x in arguments]
    FUNCTIONS[function](*whole, backend="native").backward(torch.ones_like(output))
    for one, other in zip(leaves, whole, strict=True):
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"num_queries": 0}])
def test_nothing_in_nothing_out(function, sizes):
    arguments = inputs(function, **sizes)
    output, *gradients = results(function, arguments, "native")
    assert output.shape == (sizes.get("batch_size", 2), sizes.get("num_queries", 7), 48)
    assert all(gradient.abs().sum() == 0 for gradient in gradients)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_threads_change_nothing(function):
    arguments = inputs(function, num_queries=301, head_dim=32)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    two = results(function, arguments, "native")
    torch.set_num_threads(before)
    for one, other in zip(results(function, arguments, "native"), two, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "change",
    [{"head_dim": 12}, {"num_points": 17}, {"dtype": torch.float16}, {"num_levels": 9}, {"device": "meta"}],
    ids=str,
)
def test_what_it_has_no_code_for_runs_in_plain_pytorch_unless_native_is_demanded(function, change, monkeypatch):
    monkeypatch.setitem(globals(), "SHAPES", [*SHAPES, (3, 3)])
    device = change.get("device", "cpu")
    arguments = inputs(function, **{key: value for key, value in change.items() if key != "device"})
    arguments = [x.to(device) if isinstance(x, torch.Tensor) else x for x in arguments]
    torch.testing.assert_close(FUNCTIONS[function](*arguments), FUNCTIONS[function](*arguments, backend="torch"))
    with pytest.raises(RuntimeError, match=r"is demanded .* has no code for value") as raised:
        FUNCTIONS[function](*arguments, backend="native")
    for name, tensor in (("value", arguments[0]), ("", arguments[-1])):
        described = f"{name} {tuple(tensor.shape)} {tensor.dtype} on {device}".replace("torch.", "")
        assert described in str(raised.value)


@pytest.fixture
def fake_gpus(monkeypatch):
    """Let there be two GPUs, the kernel having code for the first; return the names of the functions that run."""
    ran = []

    def function(value, shapes, *parameters):
        ran.append("offsets" if len(parameters) == 3 else "points")
        return value.new_empty(value.shape[0], parameters[-1].shape[1], value.shape[2] * value.shape[3])

    functions = SimpleNamespace(ms_deform_attn=function, ms_deform_attn_fused=function)
    kernel = Kernel(Path("k.so"), "here", ("default",), ("sm_90",), (True, False), "no nvcc was found.", functions)
    monkeypatch.setattr(kernel_backend, "_found", kernel)

    def plain(value, shapes, locations, weights):
        ran.append("plain")
        return value.new_empty(value.shape[0], weights.shape[1], value.shape[2] * value.shape[3])

    monkeypatch.setattr("unisegment.ops.ms_deform_attn._reference", plain)
    kernel_backend._warn_once.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield ran


def on_gpu(arguments, index=0):
    return [x.to(f"cuda:{index}") if isinstance(x, torch.Tensor) else x for x in arguments]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_tensors_on_a_gpu_with_code_go_to_the_kernel(function, dtype, fake_gpus):
    output = FUNCTIONS[function](*on_gpu(inputs(function, dtype)), backend="native")
    assert fake_gpus == [function]
    assert output.device == torch.device("cuda:0")


@pytest.mark.parametrize("change", [{"head_dim": 12}, {"num_points": 17}, {"num_levels": 9}], ids=str)
def test_what_it_has_no_code_for_on_a_gpu(change, fake_gpus, monkeypatch):
    monkeypatch.setitem(globals(), "SHAPES", [*SHAPES, (3, 3)])
    arguments = on_gpu(inputs("points", **change))
    ms_deform_attn(*arguments)
    with pytest.raises(RuntimeError, match=r"has no code for value .* on cuda:0.*float16 as well on CUDA"):
        ms_deform_attn(*arguments, backend="native")
    assert fake_gpus == ["plain"]


def test_a_gpu_without_code_runs_in_plain_pytorch_and_says_so_once(fake_gpus):
    arguments = on_gpu(inputs("points"), index=1)
    with pytest.warns(RuntimeWarning, match="plain PyTorch.* no code for cuda:1: no nvcc was found") as warned:
        assert [ms_deform_attn(*arguments).shape for _ in range(2)] == [(2, 7, 48)] * 2
    assert len(warned) == 1
    with pytest.raises(RuntimeError, match=r"is demanded .* no code for cuda:1: no nvcc was found"):
        ms_deform_attn(*arguments, backend="native")
    assert fake_gpus == ["plain", "plain"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_export_and_tracing_take_plain_pytorch(monkeypatch):
    monkeypatch.setenv("UNISEGMENT_KERNELS", "native")
    layer = MSDeformAttn(16, num_heads=2, num_levels=2, num_points=4).eval()
    arguments = torch.randn(2, 7, 16), torch.rand(2, 7, 2, 2), torch.randn(2, 43, 16)
    exported = torch.export.export(layer, (*arguments, SHAPES[:2]))
    assert "grid_sampler" in str(exported.graph)
    assert NAMESPACE not in str(exported.graph)

    class Traced(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, *tensors):
            return self.layer(*tensors, SHAPES[:2])

    traced = torch.jit.trace(Traced(), arguments)
    assert NAMESPACE not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(*arguments), layer(*arguments, SHAPES[:2]))


def test_the_model_learns_the_same(monkeypatch, kernel):
    config = UniSegmentConfig(
        backbone_config=ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]),
        feature_size=32, mask_feature_size=16, hidden_dim=32, encoder_layers=2, decoder_layers=2, num_queries=5,
        num_attention_heads=4, train_num_points=112, num_labels=5,
    )  # fmt: skip
    model = UniSegmentForUniversalSegmentation(config)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    pixel_values = torch.randn(2, 3, 64, 96)
    masks, labels = random_targets([3, 2], 64, 96)
    calls = []
    fused = kernel.ms_deform_attn_fused
    monkeypatch.setattr(kernel, "ms_deform_attn_fused", lambda *tensors: calls.append(1) or fused(*tensors))

    def run(backend, decoder_dtype):
        monkeypatch.setenv("UNISEGMENT_KERNELS", backend)
        model.config.pixel_decoder_dtype = decoder_dtype
        model.zero_grad()
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=decoder_dtype == "autocast"):
            loss = model(pixel_values, mask_labels=masks, class_labels=labels).loss
        loss.backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    loss, gradient = run("native", "float32")
    assert len(calls) == 2
    expected_loss, expected_gradient = run("torch", "float32")
    assert len(calls) == 2
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    assert (gradient - expected_gradient).norm() <= 1e-4 * expected_gradient.norm()
    # Values, offsets and weights come in bfloat16, reference points in float32.
    loss, _ = run("native", "autocast")
    assert len(calls) == 4
    torch.testing.assert_close(loss, expected_loss, rtol=0.05, atol=0)
