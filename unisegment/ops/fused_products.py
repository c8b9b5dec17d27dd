# SPDX-License-Identifier: Apache-2.0
"""Matrix products and convolutions together with what follows them: bias, activation, and a sum with another tensor.

Each of these would go through memory once more by itself. On a CPU oneDNN does them while a result is still in its
cache. torch keeps these functions for torch.compile and gives them no derivative, so they run where `fuses` says, and
plain functions of torch everywhere else: both give the same up to rounding.

Axes: o output channel, c input channel.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
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


def fuses(x: Tensor) -> bool:
    """Return whether oneDNN's fused functions take this tensor.

    They do on x86 processors, in float32 and in what the processor has arithmetic for, where nobody wants a gradient
    and nothing but results counts: not while torch compiles, exports or traces, nor under autocast.
    """
    return (
        not _plainly
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and type(x) in (Tensor, nn.Parameter)  # others know torch's own functions alone
        and x.device.type == "cpu"
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and x.dtype in _dtypes()
    )


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
    fused = _onednn_name(activation, x, weight)
    if fused is None:
        y = F.linear(x, weight, bias)
        y = y if activation is None else ACT2FN[activation](y)
        return y if residual is None else residual + y
    if residual is None or activation is not None:
        y = torch.ops.mkldnn._linear_pointwise(x, weight, bias, fused[0], [], fused[1])
        return y if residual is None else y.add_(residual)
    return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, "add")


def dot_products(queries: Float[Tensor, "b q c"], pixels: Float[Tensor, "b s c"]) -> Float[Tensor, "b q s"]:
    """Return the dot product of each query with each pixel of its image."""
    if fuses(queries) and queries.dtype == pixels.dtype:
        products = [linear(*of_image) for of_image in zip(queries, pixels.contiguous(), strict=True)]
        return products[0][None] if len(products) == 1 else torch.stack(products)
    return torch.matmul(queries, pixels.transpose(1, 2))


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
    fused = _onednn_name(activation, x, weight)
    if fused is None:
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        y = y if residual is None else y + residual
        return y if activation is None else ACT2FN[activation](y)
    name, way = fused
    places = (padding, stride, dilation, groups)
    if residual is None:
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *places, name, [], way)
    is_relu = activation == "relu"  # after a sum it knows no other
    y = torch.ops.mkldnn._convolution_pointwise.binary(
        x, residual, weight, bias, *places, "add", 1.0, "relu" if is_relu else None, [], None
    )
    return y if activation is None or is_relu else ACT2FN[activation](y)


def _onednn_name(activation: str | None, x: Tensor, weight: Tensor) -> tuple[str, str] | None:
    """Return how oneDNN calls an activation if its function is to run."""
    is_plain = type(weight) in (Tensor, nn.Parameter) and weight.dtype == x.dtype and weight.device == x.device
    return _ONEDNN_NAMES.get(activation) if is_plain and fuses(x) else None


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
