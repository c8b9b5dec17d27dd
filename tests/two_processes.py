# SPDX-License-Identifier: Apache-2.0
"""Run a function in two processes that can talk to each other."""

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import torch.distributed as dist

from tests.warm_processes import WarmProcess, context


def run_in_two_processes(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Return what `work(rank)` returns in each of two gloo processes, in order of rank."""
    results = context.Queue()
    processes = [WarmProcess(_join, rank, work, str(folder / "rendezvous"), results) for rank in (0, 1)]
    found: dict[int, Any] = {}
    while len(found) < len(processes):
        with suppress(Empty):
            found.update([results.get(timeout=1)])
        if any(process.poll() for process in processes):  # the other one waits for it
            for process in processes:
                process.send_signal(signal.SIGKILL)
            raise AssertionError("\n".join(process.communicate()[1] for process in processes))
    for process in processes:
        process.communicate()
    return [found[0], found[1]]


def _join(rank: int, work: Callable[[int], Any], rendezvous: str, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    results.put((rank, work(rank)))
    dist.destroy_process_group()
