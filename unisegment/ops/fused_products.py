# SPDX-License-Identifier: Apache-2.0
"""Matrix products and convolutions together with what follows them: bias, activation, and a sum with another tensor.

Each of these would go through memory once more by itself. On a CPU oneDNN does them while a result is still in its
cache. torch keeps these functions for torch.compile and gives them no derivative, so they run where `fuses` says, and
plain functions of torch everywhere else: both give the same up to rounding.

Axes: o output channel, c input channel.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from transformers.activations import ACT2FN

_ONEDNN_NAMES = {None: ("none", ""), "relu": ("relu", ""), "gelu": ("gelu", "none"), "silu": ("swish", "")}
"""What oneDNN calls an activation, and its way to compute it."""
_plainly = False


@contextmanager
def plain_products() -> Iterator[None]:
    """Within `with`, let everything run by plain functions of torch, as in training: for results equal to the bit."""
    global _plainly
    before, _plainly = _plainly, True
    try:
        yield
    finally:
        _plainly = before


def fuses(x: Tensor, in_graphs: bool = False) -> bool:
    """Return whether oneDNN's fused functions take this tensor.

    They do on x86 processors, in float32 and in what the processor has arithmetic for, where nobody wants a gradient
    and nothing but results counts: not while torch exports or traces, nor under autocast.

    Args:
        x: What they would take.
        in_graphs: Whether they may be a part of what torch compiles; a loop over sizes may not.
    """
    return (
        not _plainly
        and not torch.is_grad_enabled()
        and (not torch.compiler.is_compiling() or (in_graphs and not torch.compiler.is_exporting()))
        and not torch.jit.is_tracing()
        and type(x) in (Tensor, nn.Parameter)  # others know torch's own functions alone
        and x.device.type == "cpu"
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and _is_fast(x.dtype)
    )


def whole_in_graphs(like: Callable[..., Tensor]) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Let graphs of torch.compile hold a function as one operator.

    Args:
        like: Of the same arguments; returns an empty tensor of the result's sizes and memory format.
    """

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        operator = torch.library.custom_op(f"unisegment::{function.__name__.strip('_')}", function, mutates_args=())
        operator.register_fake(like)

        def call(*args: Any) -> Tensor:
            return (operator if torch.compiler.is_compiling() else function)(*args)

        return call

    return decorate


def linear(
    x: Float[Tensor, "*batch c"],
    weight: Float[Tensor, "o c"],
    bias: Float[Tensor, " o"] | None = None,
    activation: str | None = None,
    residual: Float[Tensor, "*batch o"] | None = None,
) -> Float[Tensor, "*batch o"]:
    """Return `activation(x @ weight.T + bias) + residual`.

    Args:
        x: Vectors.
        weight: The matrix; a map of pixels (h*w, c) may be one, and x the queries that look at it.
        bias: Added to each vector; None adds nothing.
        activation: A name that transformers knows ("relu", "gelu", …); None is without.
        residual: Added at the end; None adds nothing.
    """
    if _is_fused(activation, x, weight):
        return _fused_linear(x, weight, bias, activation, residual)
    y = F.linear(x, weight, bias)
    y = y if activation is None else ACT2FN[activation](y)
    return y if residual is None else residual + y


def _empty_products(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@whole_in_graphs(_empty_products)
def _fused_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, residual: Tensor | None
) -> Tensor:
    if residual is not None and activation is None:
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, "add")
    name, way = _ONEDNN_NAMES[activation]
    y = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], way)
    return y if residual is None else y.add_(residual)


def dot_products(queries: Float[Tensor, "b q c"], pixels: Float[Tensor, "b s c"]) -> Float[Tensor, "b q s"]:
    """Return the dot product of each query with each pixel of its image."""
    if _is_fused(None, queries, pixels):
        return _fused_dot_products(queries, pixels)
    return torch.matmul(queries, pixels.transpose(1, 2))


@whole_in_graphs(lambda queries, pixels: queries.new_empty((*queries.shape[:2], pixels.shape[1])))
def _fused_dot_products(queries: Tensor, pixels: Tensor) -> Tensor:
    pairs = zip(queries, pixels.contiguous(), strict=True)
    products = [_fused_linear(*pair, None, None, None) for pair in pairs]
    return products[0][None] if len(products) == 1 else torch.stack(products)


def conv2d(
    x: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c_group kh kw"],
    bias: Float[Tensor, " o"] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str | None = None,
    residual: Float[Tensor, "b o _ _"] | None = None,
) -> Float[Tensor, "b o _ _"]:
    """Return `activation(conv(x) + bias + residual)`, of the memory format of x.

    Args:
        x: Maps.
        weight: The kernels.
        bias: Added to each channel; None adds nothing.
        stride: As in `F.conv2d`, as what follows.
        padding: Rows and columns of zeros around the map.
        dilation: Steps between the points of a kernel.
        groups: Of channels.
        activation: A name that transformers knows; None is without.
        residual: Added before the activation; None adds nothing.
    """
    if _is_fused(activation, x, weight):
        return _fused_conv2d(x, weight, bias, stride, padding, dilation, groups, activation, residual)
    y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    y = y if residual is None else y + residual
    return y if activation is None else ACT2FN[activation](y)


def _empty_maps(
    x: Tensor, weight: Tensor, _: Any, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], *__: Any
) -> Tensor:
    size = [
        (length + 2 * more - step * (kernel - 1) - 1) // pace + 1
        for length, more, step, kernel, pace in zip(
            x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    y = x.new_empty((x.shape[0], weight.shape[0], *size))
    return y.contiguous(memory_format=suggest_memory_format(x))


@whole_in_graphs(_empty_maps)
def _fused_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str | None,
    residual: Tensor | None,
) -> Tensor:
    places = (padding, stride, dilation, groups)
    name, way = _ONEDNN_NAMES[activation]
    if residual is None:
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *places, name, [], way)
    is_relu = activation == "relu"  # after a sum it knows no other
    y = torch.ops.mkldnn._convolution_pointwise.binary(
        x, residual, weight, bias, *places, "add", 1.0, "relu" if is_relu else None, [], None
    )
    return y if activation is None or is_relu else ACT2FN[activation](y)


def _is_fused(activation: str | None, x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN's function is to run."""
    is_plain = type(weight) in (Tensor, nn.Parameter) and weight.dtype == x.dtype and weight.device == x.device
    return is_plain and activation in _ONEDNN_NAMES and fuses(x, in_graphs=True)


@torch.compiler.assume_constant_result
def _is_fast(dtype: torch.dtype) -> bool:
    return dtype in _dtypes()


@cache
def _dtypes() -> frozenset[torch.dtype]:
    onednn = torch.ops.mkldnn
    names = ("_linear_pointwise", "_convolution_pointwise", "_is_mkldnn_bf16_supported", "_is_mkldnn_fp16_supported")
    # They are no public functions of torch: a release may be without.
    if not torch.backends.mkldnn.is_available() or not all(hasattr(onednn, name) for name in names):
        return frozenset()
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return frozenset()  # nobody has measured what it gives elsewhere
    is_native = {
        torch.float32: True,
        torch.bfloat16: onednn._is_mkldnn_bf16_supported(),
        torch.float16: onednn._is_mkldnn_fp16_supported(),
    }
    return frozenset(dtype for dtype, supported in is_native.items() if supported)
