# SPDX-License-Identifier: Apache-2.0
"""What concerns processes: their threads, random numbers and signals."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator

from unisegment.training.batches import Purpose


def num_threads(environment: dict[str, str], num_processes: int) -> int:
    """Return how many threads each process should use.

    Launchers set OMP_NUM_THREADS to 1 when the user has not set it: all processors but one would idle. A higher number,
    or one that no launcher can have set, is taken to be meant.

    Args:
        environment: The environment variables.
        num_processes: Processes of the run, all on this machine unless LOCAL_WORLD_SIZE says otherwise.
    """
    is_launched = "ACCELERATE_DYNAMO_BACKEND" in environment or "TORCHELASTIC_RUN_ID" in environment
    asked = int(environment.get("OMP_NUM_THREADS", "0").split(",")[0])
    if asked > 1 or (asked == 1 and not is_launched):
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(environment.get("LOCAL_WORLD_SIZE", num_processes)))


def seed_step(seed: int, step: int, process_index: int) -> None:
    """Set torch's random numbers for one step of one process."""
    sequence = np.random.SeedSequence((Purpose.STEP, seed, step, process_index))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


def any_process(accelerator: Accelerator, answer: bool) -> bool:
    """Tell, in every process, whether one of them says yes."""
    if accelerator.num_processes == 1:
        return answer
    # Filled, not made of a number, which would be sent to an accelerator: it is waited for once, for the sum.
    return bool(accelerator.reduce(torch.full((), float(answer), device=accelerator.device), "sum").item())


def peak_memory_mebibytes(device: torch.device) -> float:
    """Return the most memory that this process has had: of the GPU for tensors, or else all that is resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float("nan")
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


class StopSignals:
    """Within `with`, remember SIGTERM and SIGINT instead of breaking off; the second of them breaks off at once."""

    received: bool = False

    def __enter__(self) -> Self:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():  # others cannot
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
