# SPDX-License-Identifier: Apache-2.0
"""Decisions that all processes must share: the others may see the disk a moment later than the first one."""

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

T = TypeVar("T")


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
