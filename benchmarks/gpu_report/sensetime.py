# SPDX-License-Identifier: Apache-2.0
"""SenseTime's kernel as a function of points, from a library that registers its two operators in torch.ops.

kernels-community/deformable-detr is its source, adapted to today's torch.
"""

import torch
from contenders import Function, Shapes, sizes_of
from torch import Tensor

_FORWARD, _BACKWARD = "::ms_deform_attn_forward", "::ms_deform_attn_backward"


def sensetime_function(path: str) -> Function:
    """Return the original kernel. It takes one type for all tensors: 16-bit locations are rounded.

    Raises:
        OSError: When the library cannot be loaded.
        RuntimeError: When it registers no such operators.
    """
    forward, backward = load(path)

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, step, *tensors):
            ctx.step = step
            ctx.save_for_backward(*tensors)
            return forward(*tensors, step)

        @staticmethod
        def backward(ctx, gradient):
            grads = backward(*ctx.saved_tensors, gradient.contiguous(), ctx.step)
            return None, grads[0], None, None, *grads[1:]

    def function(shapes: Shapes, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        sizes = sizes_of(tuple(shapes), value.device).flip(1).contiguous()
        areas = sizes.prod(1)
        parameters = locations.to(value.dtype).contiguous(), weights.to(value.dtype).contiguous()
        return Attention.apply(min(len(value), 64), value, sizes, areas.cumsum(0) - areas, *parameters)

    return function


def load(path: str) -> tuple[Function, Function]:
    """Return the operators forward and backward, whatever namespace the library gives them."""
    torch.ops.load_library(path)
    for name in torch._C._dispatch_get_all_op_names():
        namespace = name.removesuffix(_FORWARD)
        if name.endswith(_FORWARD) and torch._C._dispatch_has_kernel(namespace + _BACKWARD):
            operators = getattr(torch.ops, namespace)
            return operators.ms_deform_attn_forward, operators.ms_deform_attn_backward
    raise RuntimeError(f"{path} registers no ms_deform_attn_forward and ms_deform_attn_backward in torch.ops")
