# SPDX-License-Identifier: Apache-2.0
"""A task and numbers in, results out as they come, from processes that may die or hang without stopping the rest.

`concurrent.futures` gives up all that is left when a process dies, and waits for ever for one that hangs.
"""

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")

_PARENT_CHECK = 5.0
"""Seconds between two looks at whether the process that started a worker is still there."""


@dataclass(frozen=True)
class Failure:
    """Why there is no result.

    Args:
        reason: `slow`, `died` or `raised`.
        detail: In words.
    """

    reason: str
    detail: str


def run_parallel(
    task: Callable[[int], T], numbers: Iterable[int], workers: int | None, timeout: float
) -> Iterator[tuple[int, T | Failure]]:
    """Give the result of each number, in the order in which they are ready.

    Args:
        task: Called in a worker process, with one thread.
        numbers: What to call it with.
        workers: Processes, at least one; None takes one for each processor.
        timeout: Seconds after which a process is ended that has no result.
    """
    pending = iter(numbers)
    pool: list[_Worker[T]] = []
    try:
        for number in islice(pending, workers or _num_processors()):
            pool.append(_Worker(task))
            pool[-1].begin(number, timeout)
        while pool:
            next_deadline = min(worker.deadline for worker in pool)
            ready = wait([worker.connection for worker in pool], max(0.0, next_deadline - time.monotonic()))
            now = time.monotonic()
            for worker in [worker for worker in pool if worker.connection in ready or now >= worker.deadline]:
                number, result = worker.number, worker.finish(worker.connection in ready, timeout)
                following = next(pending, None)
                if worker.is_lost or following is None:
                    pool.remove(worker)
                    worker.end()
                if following is not None:
                    if worker.is_lost:
                        pool.append(worker := _Worker(task))
                    worker.begin(following, timeout)
                yield number, result
    finally:
        for worker in pool:
            worker.end()


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker(Generic[T]):
    def __init__(self, task: Callable[[int], T]) -> None:
        # Where processes can be forked they share the memory of the task, which may be all annotations of a data set.
        is_forked = "fork" in multiprocessing.get_all_start_methods() and os.uname().sysname == "Linux"
        context: Any = multiprocessing.get_context("fork" if is_forked else "spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(task, theirs, os.getpid()), daemon=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            self._process.start()
        theirs.close()
        self.number = -1
        self.deadline = float("inf")
        self.is_lost = False

    def begin(self, number: int, timeout: float) -> None:
        """Hand over a number."""
        self.number, self.deadline = number, time.monotonic() + timeout
        with suppress(OSError):  # it has died, as is found out at once
            self.connection.send(number)

    def finish(self, is_ready: bool, timeout: float) -> T | Failure:
        """Return the result, or why there is none; the process is then lost."""
        try:
            if is_ready:
                return self.connection.recv()
            failure = Failure("slow", f"no result after {timeout:g} seconds")
        except (EOFError, OSError):
            self._process.join(1)
            failure = Failure("died", _end_of(self._process.exitcode))
        self.is_lost = True
        return failure

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(task: Callable[[int], T], connection: Connection, parent: int) -> None:
    # Ctrl-C reaches all processes of a terminal; the one that waits for results ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    while True:
        while not connection.poll(_PARENT_CHECK):
            if os.getppid() != parent:
                return
        try:
            number = connection.recv()
        except EOFError:
            return
        try:
            result: T | Failure = task(number)
        except Exception as error:
            result = Failure("raised", f"{type(error).__name__}: {error}")
        try:
            connection.send(result)
        except OSError:  # nobody waits for it any more
            return


def _end_of(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"it was ended by signal {-exit_code}"
    return f"it ended with the exit code {exit_code}"
