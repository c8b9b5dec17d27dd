# SPDX-License-Identifier: Apache-2.0
"""How much memory a call needs, by the system's own count (Linux only)."""

import ctypes
from collections.abc import Callable
from pathlib import Path


def peak_mebibytes(run: Callable[[], object]) -> float:
    """Return how much memory a function needs at most, above what the process has before."""
    ctypes.CDLL(None).malloc_trim(0)  # what is free is given back, so that taking it again is seen
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _status_mebibytes("VmRSS")
    run()
    return _status_mebibytes("VmHWM") - before


def _status_mebibytes(key: str) -> float:
    """Return a line of the system's report on this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
