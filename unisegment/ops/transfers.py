# SPDX-License-Identifier: Apache-2.0
"""Numbers from an accelerator to the CPU and back, with as little waiting as possible.

Whatever comes from there is waited for, with all work that was queued.
"""

from typing import Any

import torch
from torch import Tensor

_WAITED_FOR = ("mps",)
"""Devices that copy from memory which others may use again by then (pytorch/pytorch, issues 139550 and 189690)."""


def fetch(*values: Any) -> list[Any]:
    """Return tensors on the CPU, brought there together: an accelerator is waited for once.

    Args:
        values: Tensors of any type and shape. What is on the CPU, or no tensor at all, is returned as it is.
    """
    away = [value for value in values if isinstance(value, Tensor) and value.device != torch.device("cpu")]
    if not away:
        return list(values)
    parts = [value.contiguous().flatten().view(torch.uint8).to(away[0].device) for value in away]
    brought = torch.cat(parts).cpu().split([len(part) for part in parts])
    # Cloned, because numbers of 8 bytes begin at multiples of 8.
    copies = (part.clone().view(value.dtype).view(value.shape) for part, value in zip(brought, away, strict=True))
    return [next(copies) if any(value is other for other in away) else value for value in values]


def send(value: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device, where it may arrive later; `value` need not be kept until then.

    CUDA reads all of it before this returns, or copies it aside. Of pinned memory torch keeps account.
    """
    return value.to(device, non_blocking=device.type not in _WAITED_FOR)


def send_into(place: Tensor, value: Tensor) -> None:
    """Copy a tensor into one of another device, where it may arrive later, as with `send`."""
    place.copy_(value, non_blocking=place.device.type not in _WAITED_FOR)
