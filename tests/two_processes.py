# SPDX-License-Identifier: Apache-2.0
"""Run a function in two processes that can talk to each other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tests.warm_processes import WarmProcess, context


def run_in_two_processes(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Return what `work(rank)` returns in each of two gloo processes, in order of rank."""
    results = context.Queue()
    processes = [WarmProcess(_join, rank, work, str(folder / "rendezvous"), results) for rank in (0, 1)]
    found = dict(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.communicate()
    return [found[0], found[1]]


def _join(rank: int, work: Callable[[int], Any], rendezvous: str, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    results.put((rank, work(rank)))
    dist.destroy_process_group()
