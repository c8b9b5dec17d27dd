# SPDX-License-Identifier: Apache-2.0
"""Tensors that follow from a size alone, such as codes of positions: made once, not for each image anew."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

_MOST = 8
"""Results that are kept of each function: those of the levels of a few image sizes."""


def cached_constant(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function keep the last tensors that it made: of equal arguments it returns the same one.

    It is made anew where it would be no constant: while torch compiles, exports, traces or records for a GPU, and where
    tensors have no contents.

    Args:
        make: Its arguments are hashable, and nothing else decides what it returns. Nobody changes that in place.
    """

    @lru_cache(_MOST)
    def kept(*args: Any) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():  # of use for gradients, too
            return make(*args)

    @wraps(make)
    def constant(*args: Any) -> Tensor:
        is_plain = not (
            torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or is_in_torch_dispatch_mode()
            or any(isinstance(arg, torch.device) and _is_without_contents(arg) for arg in args)
        )
        return kept(*args) if is_plain else make(*args)

    return constant


def _is_without_contents(device: torch.device) -> bool:
    """Return whether what is made there now is not computed now; a recording computes it whenever it is replayed."""
    return device.type == "meta" or (device.type == "cuda" and torch.cuda.is_current_stream_capturing())
