# SPDX-License-Identifier: Apache-2.0
"""Sums over processes, and nothing else."""

import torch.distributed
from torch import Tensor


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes; the tensor itself when there is only one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()
