# SPDX-License-Identifier: Apache-2.0
"""Run a function in two processes that can talk to each other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as mp


def run_in_two_processes(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Return what `work(rank)` returns in each of two gloo processes, in order of rank."""
    context = mp.get_context("spawn")
    results = context.Queue()
    arguments = (work, str(folder / "rendezvous"), results)
    processes = [context.Process(target=_join, args=(rank, *arguments)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=180) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    return [found[0], found[1]]


def _join(rank: int, work: Callable[[int], Any], rendezvous: str, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    results.put((rank, work(rank)))
    dist.destroy_process_group()
