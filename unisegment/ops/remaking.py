# SPDX-License-Identifier: Apache-2.0
"""Tensors that a backward pass makes again from others that are kept anyway, instead of keeping them, too."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import SymInt, Tensor

from unisegment.ops.fused_products import plain_products


@contextmanager
def remade(*recipes: tuple[Tensor, Callable[[], Tensor]], when: bool = True) -> Iterator[None]:
    """Within `with`, let operators keep a recipe wherever they would keep one of these tensors.

    It is made again each time that a gradient asks for it. So this is for what is cheap: a sum, a norm, a small
    product. torch.compile decides by itself what to keep.

    Args:
        recipes: A tensor, and what makes the same one again: of its layout, and without drawing random numbers. It
            should hold nothing but what is kept for other gradients.
        when: False does nothing. Where whole layers are checkpointed it must be so: what is kept within this `with` is
            hidden from hooks around it.
    """
    if not when or not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        yield
        return
    devices = {tensor.device.type for tensor, _ in recipes} - {"meta"}  # for which torch has no autocast
    formats = [(one, torch.get_autocast_dtype(one), torch.is_autocast_enabled(one)) for one in devices]
    made_by = {tensor.untyped_storage()._cdata: make for tensor, make in recipes}

    def pack(tensor: Tensor) -> "Tensor | _Recipe":
        make = made_by.get(tensor.untyped_storage()._cdata)
        if make is None:
            return tensor
        return _Recipe(make, formats, tensor.shape, tensor.stride(), tensor.storage_offset())

    # The caller's arguments keep the tensors, so that no other gets such an address; autograd keeps `pack`.
    with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
        yield


class _Recipe(NamedTuple):
    """How a tensor is made again: by what, under which autocast, and which view of the result it is."""

    make: Callable[[], Tensor]
    formats: Sequence[tuple[str, torch.dtype, bool]]
    shape: Sequence[int]
    stride: Sequence[int]
    offset: int | SymInt


def _unpack(kept: Tensor | _Recipe) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    with torch.no_grad(), plain_products(), ExitStack() as stack:  # plain products are those of the forward pass
        for device, dtype, is_enabled in kept.formats:
            stack.enter_context(torch.autocast(device, dtype, enabled=is_enabled))
        return kept.make().as_strided(kept.shape, kept.stride, kept.offset)
