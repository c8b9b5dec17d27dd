# SPDX-License-Identifier: Apache-2.0
"""Runs a stage in a process of its own, which ends in time whatever it does. Only the standard library is needed."""

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from gpu_report.settings import Settings

_PR_SET_CHILD_SUBREAPER = 36
_TO_END, _TO_DIE = 10, 3
"""Seconds for a process to end that has nothing more to say, and that was killed."""


def adopt_orphans() -> None:
    """Become the parent of what stages leave behind, in whatever session, so that it can be found and killed."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def run_stage(
    modules: Sequence[str], settings: Settings, environment: Mapping[str, str], log: IO[bytes]
) -> Iterator[bytes]:
    """Yield the lines that a stage hands over, until it ends or its deadline comes; then none of its processes is left.

    Args:
        modules: Of this folder.
        settings: For them.
        environment: All variables of their process.
        log: Where everything goes that it prints.

    Raises:
        RuntimeError: When it did not end by itself with status 0, in one line that says how it ended.
    """
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "gpu_report.child", ",".join(modules), str(writing), settings.to_json()]
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[writing],
        start_new_session=True,
    )
    os.close(writing)
    try:
        began = time.monotonic()
        told_all = yield from _lines(reading, settings.deadline)
        if not told_all:
            raise RuntimeError(f"killed after {time.monotonic() - began:.0f} s: it had not come to its end")
        # What is still to be tidied up then is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(min(_TO_END, max(0, settings.left())))
            if status:
                raise RuntimeError(_ending(status))
    finally:
        os.close(reading)
        kill_all(process)


def _lines(descriptor: int, deadline: float) -> Generator[bytes, None, bool]:
    """Yield whole lines as they come; return True once nobody can write any more, False when the deadline is over."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                return False
            part = os.read(descriptor, 1 << 16)
            if not part:
                return True
            *lines, rest = (rest + part).split(b"\n")
            yield from lines
    return False


def _ending(status: int) -> str:
    if status == -signal.SIGKILL:
        return "died of SIGKILL, as processes do when the machine is out of memory"
    if status < 0:
        return f"died of {signal.Signals(-status).name}"
    return f"ended with status {status}; the end of log.txt says why"


def kill_all(process: subprocess.Popen) -> None:
    """Kill a process, and all that this one has become the parent of. One that a driver holds is not waited for."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + _TO_DIE
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        children = _children()  # of what was killed, too
        if ended and not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def _children() -> list[int]:
    """Return the processes whose parent this one is, where the system tells."""
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(word) for word in file.read_text().split()] if file.exists() else []
