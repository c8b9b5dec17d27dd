# SPDX-License-Identifier: Apache-2.0
"""A device in, the memory that a process could still take there out."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def free_memory(device: torch.device) -> int:
    """Return bytes that are free: on a GPU, or for each process of this run on the machine, within its container.

    Args:
        device: Where tensors will be. It is started if it has not been used.
    """
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    if device.type != "cpu":
        return torch.get_device_module(device).mem_get_info(device)[0]
    left = min([psutil.virtual_memory().available, *_left_in_groups()])
    return max(0, left) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _left_in_groups() -> Iterator[int]:
    """Give what control groups of Linux leave to this process: containers and batch systems set such limits.

    Source:
        The kernel's documentation of control groups, versions 1 and 2.
    """
    lines = _OWN_GROUP.read_text().splitlines() if _OWN_GROUP.is_file() else []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        root = _GROUPS / kinds
        names = ("memory.max", "memory.current", "inactive_file")
        if kinds:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        group = root / path.lstrip("/")
        # A group has what its parents leave; in a container the first of them is the root of all that is seen.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _left_in_group(folder, *names)


def _left_in_group(folder: Path, limit: str, used: str, cache: str) -> Iterator[int]:
    try:
        most, taken = ((folder / name).read_text().strip() for name in (limit, used))
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    if most != "max":
        yield int(most) - int(taken) + int(counts.get(cache, 0))  # files that were read are given back when needed
