# SPDX-License-Identifier: Apache-2.0
"""The least time that a network can take here: its matrix products and convolutions alone.

Everything between them is left out: activations, norms, sums, copies, and the kernel of deformable attention. Each
product is computed in the fastest of the forms that torch has for it here, into memory that is there already, from
operands that are there already. Weights are packed before.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unisegment.ops.fused_products import plain_products

Product = tuple[Any, ...]
"""A name and what tells the product: mm and m k n; bmm and b m k n; attention and shapes; conv, shapes and places."""
_TRIALS = 2


def count_products(call: Callable[[], object]) -> Counter[Product]:
    """Return which products a call computes, and each how often."""
    recorder = _Recorder()
    with torch.no_grad(), plain_products(), recorder:
        call()
    return recorder.products


def products_alone(products: Counter[Product], dtype: torch.dtype) -> Callable[[], None]:
    """Return what computes these products, and nothing else."""
    with torch.no_grad():
        runs = [(_fastest(_FORMS[kind](*what, dtype)), times) for (kind, *what), times in products.items()]

    @torch.no_grad()
    def run() -> None:
        for product, times in runs:
            for _ in range(times):
                product()

    return run


class _Recorder(TorchDispatchMode):
    """Notes the products among the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split("::")[1].split(".")[0]
        if name in _NOTES:
            self.products[_NOTES[name](*args)] += 1
        return func(*args, **(kwargs or {}))


def _note_mm(one: Tensor, other: Tensor, *_: Any) -> Product:
    return "mm", *one.shape, other.shape[1]


def _note_bmm(one: Tensor, other: Tensor, *_: Any) -> Product:
    return "bmm", *one.shape, other.shape[2]


def _note_attention(query: Tensor, key: Tensor, *_: Any) -> Product:
    return "attention", tuple(query.shape), tuple(key.shape)


def _note_convolution(x: Tensor, weight: Tensor, _: Any, stride, padding, dilation, transposed, __, groups) -> Product:
    """Return a convolution; one whose kernels meet each pixel once is a product of two matrices."""
    kernel, plain = list(weight.shape[2:]), list(padding) == [0, 0] and groups == 1 and list(dilation) == [1, 1]
    if plain and kernel == list(stride):
        size, pixels = kernel[0] * kernel[1], x.shape[0] * x.shape[2] * x.shape[3]
        if transposed:
            return "mm", pixels, x.shape[1], weight.shape[1] * size
        return "mm", pixels // size, x.shape[1] * size, weight.shape[0]
    places = tuple(stride), tuple(padding), tuple(dilation), transposed, groups
    return "conv", tuple(x.shape), tuple(weight.shape), *places


_NOTES: dict[str, Callable[..., Product]] = {
    "mm": _note_mm,
    "addmm": lambda _, *matrices: _note_mm(*matrices),
    "bmm": _note_bmm,
    "baddbmm": lambda _, *matrices: _note_bmm(*matrices),
    "_scaled_dot_product_flash_attention_for_cpu": _note_attention,
    "convolution": _note_convolution,
}


def _mm(m: int, k: int, n: int, dtype: torch.dtype) -> Iterator[Callable[[], object]]:
    one, weight, result = _random(dtype, m, k), _random(dtype, n, k), torch.empty(m, n, dtype=dtype)
    yield lambda: torch.mm(one, weight.T, out=result)
    other = weight.T.contiguous()
    yield lambda: torch.mm(one, other, out=result)
    yield from _onednn(one.T.view(1, k, m, 1), weight.view(n, k, 1, 1), (1, 1), (0, 0), (1, 1), 1)


def _bmm(b: int, m: int, k: int, n: int, dtype: torch.dtype) -> Iterator[Callable[[], object]]:
    one, result = _random(dtype, b, m, k), torch.empty(b, m, n, dtype=dtype)
    other, turned = _random(dtype, b, k, n), _random(dtype, b, n, k)
    yield lambda: torch.bmm(one, other, out=result)
    yield lambda: torch.bmm(one, turned.mT, out=result)
    back = torch.empty(b, n, m, dtype=dtype)
    yield lambda: torch.bmm(turned, one.mT, out=back)


def _attention(query: Sequence[int], key: Sequence[int], dtype: torch.dtype) -> Iterator[Callable[[], object]]:
    queries, keys, values = _random(dtype, *query), _random(dtype, *key), _random(dtype, *key)
    yield lambda: F.scaled_dot_product_attention(queries, keys, values)


def _conv(x_shape, w_shape, stride, padding, dilation, transposed, groups, dtype) -> Iterator[Callable[[], object]]:
    x, weight = _random(dtype, *x_shape), _random(dtype, *w_shape)
    conv = F.conv_transpose2d if transposed else F.conv2d
    keywords: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    yield lambda: conv(x, weight, **keywords)
    last = [tensor.to(memory_format=torch.channels_last) for tensor in (x, weight)]
    yield lambda: conv(*last, **keywords)
    if not transposed:
        yield from _onednn(last[0], weight, stride, padding, dilation, groups)


def _onednn(x: Tensor, weight: Tensor, stride, padding, dilation, groups) -> Iterator[Callable[[], object]]:
    """Yield oneDNN's convolution that adds to memory, as it asks for none. It is no public function of torch."""
    onednn, places = torch.ops.mkldnn, [list(each) for each in (padding, stride, dilation)]
    packed = onednn._reorder_convolution_weight(weight, *places, groups, list(x.shape))
    result = torch.zeros_like(F.conv2d(x, weight, None, stride, padding, dilation, groups))
    rest = (None, *places, groups, "add", None, None, [], None)
    yield lambda: onednn._convolution_pointwise_.binary(result, x, packed, *rest)


_FORMS: dict[str, Callable[..., Iterator[Callable[[], object]]]] = {
    "mm": _mm,
    "bmm": _bmm,
    "attention": _attention,
    "conv": _conv,
}


def _fastest(forms: Iterator[Callable[[], object]]) -> Callable[[], object]:
    """Return the form that takes least; those that this release or processor lacks do not count."""
    found: dict[Callable[[], object], float] = {}
    with contextlib.suppress(RuntimeError, NotImplementedError, AttributeError):
        for form in forms:
            form()
            found[form] = min(_seconds(form) for _ in range(_TRIALS))
    return min(found, key=lambda form: found[form])


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _random(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape).to(dtype)
