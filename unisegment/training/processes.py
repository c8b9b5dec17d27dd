# SPDX-License-Identifier: Apache-2.0
"""What concerns several processes on one machine: threads, random numbers, and decisions that all must share."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from unisegment.training.batches import Purpose
from unisegment.training.settings import RecipeError

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


def seed_step(seed: int, step: int, process_index: int) -> None:
    """Set torch's random numbers for one step of one process."""
    sequence = np.random.SeedSequence((Purpose.STEP, seed, step, process_index))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


def decide_once(accelerator: Accelerator, decide: Callable[[], T]) -> T:
    """Return what the first process decides, in every process: the others may see the disk a moment later."""
    outcome: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [decide()]
        except RecipeError as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], RecipeError):
        raise outcome[0]
    return outcome[0]
