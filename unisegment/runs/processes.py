# SPDX-License-Identifier: Apache-2.0
"""What concerns processes: their threads and signals, what each does of the whole, and what all must agree on."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env

T = TypeVar("T")


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


def start_processes() -> bool:
    """Join the other processes, if there are any, and use the processors that there are for each.

    Returns:
        Whether this is the process that tells the user.
    """
    # Processes on CPUs find each other only when told that they are; launchers say so in this variable.
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    # Some wait for others: for those with larger images, or for the first one, which packs the files.
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=1))
    torch.set_num_threads(num_threads(dict(os.environ), state.num_processes))
    return state.is_main_process


def decide_once(decide: Callable[[], T]) -> T:
    """Return what the first process decides, in every process; a ValueError or OSError there is raised in all of them.

    Args:
        decide: Is called in the first process; what it returns or raises can be sent to the others.
    """
    outcome: list[Any] = [None]
    if PartialState().is_main_process:
        try:
            outcome = [decide()]
        except (ValueError, OSError) as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def share_of_process(indices: Sequence[int]) -> list[int]:
    """Return the part of a list that this process is to do; parts differ in length by one at most."""
    state = PartialState()
    return np.array_split(np.asarray(indices, dtype=np.int64), state.num_processes)[state.process_index].tolist()


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


def leave_process_group(worker: int) -> None:
    """Let a process that loads images be none of those that a launcher or Ctrl-C asks to end: it is still needed.

    It ends with the process that started it.
    """
    if hasattr(os, "setpgid"):  # not on Windows
        os.setpgid(0, 0)
