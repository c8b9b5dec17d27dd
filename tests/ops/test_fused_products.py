# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import EagerAndRecordGraphs
from torch._subclasses.fake_tensor import FakeTensorMode

from unisegment.ops import fused_products
from unisegment.ops.fused_products import conv2d, dot_products, fuses, linear, plain_products

needs_onednn = pytest.mark.skipif(
    torch.float32 not in fused_products._dtypes(), reason="this processor, or this torch, has no fused functions"
)
ACTIVATIONS = [None, "relu", "gelu", "silu", "tanh"]
PLAIN = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh}


def both_ways(call):
    """Return what is computed without a gradient, and by plain functions."""
    with torch.no_grad():
        fused = call()
        with plain_products():
            return fused, call()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_residual", [False, True])
def test_a_linear_layer_equals_its_formula(activation, with_residual):
    x, weight, bias, residual = torch.randn(2, 5, 7), torch.randn(11, 7), torch.randn(11), torch.randn(2, 5, 11)
    expected = x @ weight.T + bias
    expected = expected if activation is None else PLAIN[activation](expected)
    expected = expected + residual if with_residual else expected
    kept = residual.clone()
    for found in both_ways(lambda: linear(x, weight, bias, activation, residual if with_residual else None)):
        torch.testing.assert_close(found, expected)
    assert torch.equal(residual, kept)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_equals_its_formula(activation, with_residual, memory_format):
    x = torch.randn(2, 6, 13, 9).contiguous(memory_format=memory_format)
    weight, bias, residual = torch.randn(4, 3, 3, 3), torch.randn(4), torch.randn(2, 4, 7, 5)
    residual = residual.contiguous(memory_format=memory_format)
    places = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 2}
    expected = F.conv2d(x, weight, bias, **places)
    expected = expected + residual if with_residual else expected
    expected = expected if activation is None else PLAIN[activation](expected)
    kept = residual.clone()
    call = lambda: conv2d(  # noqa: E731
        x, weight, bias, **places, activation=activation, residual=residual if with_residual else None
    )
    for found in both_ways(call):
        torch.testing.assert_close(found, expected)
        assert found.is_contiguous(memory_format=memory_format)
    assert torch.equal(residual, kept)


@pytest.mark.parametrize("transposed", [False, True])
def test_dot_products_equal_their_formula(transposed):
    queries, pixels = torch.randn(2, 5, 7), torch.randn(2, 7, 11).transpose(1, 2)
    pixels = pixels if transposed else pixels.contiguous()
    for found in both_ways(lambda: dot_products(queries, pixels)):
        torch.testing.assert_close(found, torch.einsum("bqc,bsc->bqs", queries, pixels))


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_where_it_is_native(dtype):
    x, weight, bias = (torch.randn(size, dtype=dtype) for size in ((3, 32), (48, 32), (48,)))
    with torch.no_grad():
        assert fuses(x) == (dtype in fused_products._dtypes())
        found = linear(x, weight, bias, "relu")
    expected = (x.float() @ weight.float().T + bias.float()).relu()
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-1)


@needs_onednn
def test_fuses_only_where_nothing_but_the_result_counts():
    x = torch.randn(3, 4)
    assert not fuses(x)  # there may be a gradient
    with torch.no_grad():
        assert fuses(x)
        assert fuses(nn.Parameter(x))
        with plain_products():
            assert not fuses(x)
        assert fuses(x)
        assert not fuses(x.double())
        assert fuses(x, in_graphs=True)
        assert not fuses(x[:0])
        assert not fuses(x.to("meta"))
        assert not fuses(x.as_subclass(type("Special", (torch.Tensor,), {})))
        with torch.autocast("cpu", torch.bfloat16):
            assert not fuses(x)
        with FakeTensorMode():
            assert not fuses(torch.empty(3, 4))
    with torch.inference_mode():
        assert fuses(x)


@needs_onednn
def test_weights_of_other_kinds_are_left_to_torch():
    x, weight = torch.randn(3, 4), torch.randn(5, 4)
    special = weight.as_subclass(type("Special", (torch.Tensor,), {}))
    with torch.no_grad():
        torch.testing.assert_close(linear(x, special).as_subclass(torch.Tensor), x @ weight.T)
        with pytest.raises(RuntimeError):  # torch's own word about it
            linear(x, weight.double())


@needs_onednn
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_graphs_are_made_of_plain_functions():
    weight = torch.randn(5, 4)
    with torch.no_grad():
        program = torch.export.export(_Product(weight), (torch.randn(3, 4),))
        traced = torch.jit.trace(_Product(weight), torch.randn(3, 4))
    assert "mkldnn" not in str(program.graph)
    assert "mkldnn" not in str(traced.inlined_graph)


@needs_onednn
@torch.no_grad()
def test_graphs_of_torch_compile_hold_each_as_one_operator():
    torch.compiler.reset()
    x = torch.randn(2, 6, 13, 9).contiguous(memory_format=torch.channels_last)
    weights = [torch.randn(4, 3, 3, 3), torch.randn(4), torch.randn(11, 7), torch.randn(11)]
    tokens, residual = torch.randn(2, 5, 7), torch.randn(2, 5, 11)

    def compute(x, tokens, residual):
        maps = conv2d(x, *weights[:2], (2, 2), (1, 1), (1, 1), 2, "relu")
        products = linear(tokens, *weights[2:], "gelu", residual)
        return maps, products, dot_products(tokens, products[..., :7])

    graphs = EagerAndRecordGraphs()
    compiled = torch.compile(compute, backend=graphs, fullgraph=True)
    for size in (slice(13), slice(12), slice(9)):  # the second one makes a graph for other sizes, too
        one = (x[:, :, size], tokens, residual)
        for found, expected in zip(compiled(*one), compute(*one), strict=True):
            assert torch.equal(found, expected)
    assert len(graphs.graphs) == 2
    for graph in graphs.graphs:
        names = [node.target.name() for node in graph.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
        assert names == [f"unisegment::fused_{name}" for name in ("conv2d", "linear", "dot_products")]
    torch.compiler.reset()


@needs_onednn
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_graphs_know_the_sizes_and_layouts_of_results(memory_format):
    x = torch.randn(2, 6, 13, 9).contiguous(memory_format=memory_format)
    weight, bias = torch.randn(4, 3, 3, 2), torch.randn(4)
    matrix, tokens, residual = torch.randn(11, 7), torch.randn(2, 5, 7), torch.randn(2, 5, 11)
    calls = {
        "conv2d": (x, weight, bias, [2, 1], [1, 0], [1, 2], 2, "relu", None),
        "linear": (tokens, matrix, None, "gelu", residual),
        "dot_products": (tokens, torch.randn(2, 3, 7)),
    }
    for name, arguments in calls.items():
        operator = getattr(torch.ops.unisegment, f"fused_{name}")
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


class _Product(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return linear(x, self.weight, None, "relu")


def test_a_release_without_the_functions_computes_plainly(monkeypatch):
    monkeypatch.setattr(fused_products, "_dtypes", frozenset)
    x, weight = torch.randn(3, 4), torch.randn(5, 4)
    with torch.no_grad():
        assert not fuses(x)
        assert torch.equal(linear(x, weight), F.linear(x, weight))
