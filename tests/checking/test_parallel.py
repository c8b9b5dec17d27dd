# SPDX-License-Identifier: Apache-2.0
"""Every number gets its result, or is told to have none, whatever happens to the process that computes it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from unisegment.checking.parallel import Failure, run_parallel


def square(number):
    return number * number


def suffer(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        os._exit(3)
    if number == 7:
        time.sleep(1000)
    if number == 8:
        raise RuntimeError("no idea")
    return number


@pytest.mark.parametrize("workers", [1, 3, 20])
def test_every_number_has_a_result(workers):
    assert dict(run_parallel(square, range(11), workers, timeout=60)) == {n: n * n for n in range(11)}
    assert list(run_parallel(square, [], workers, timeout=60)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_that_die_or_hang_are_told_and_replaced(workers):
    results = dict(run_parallel(suffer, range(11), workers, timeout=3))
    failed = {number: result for number, result in results.items() if isinstance(result, Failure)}
    assert failed == {
        2: Failure("died", "it was ended by signal 9"),
        5: Failure("died", "it ended with the exit code 3"),
        7: Failure("slow", "no result after 3 seconds"),
        8: Failure("raised", "RuntimeError: no idea"),
    }
    assert {number: result for number, result in results.items() if number not in failed} == {
        number: number for number in (0, 1, 3, 4, 6, 9, 10)
    }


def process_id(number):
    time.sleep(number)
    return os.getpid()


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_process_is_left_when_results_are_no_longer_wanted():
    results = run_parallel(process_id, [0, 500, 500], 2, timeout=1000)
    _, process = next(results)
    assert is_alive(process)
    results.close()
    assert not is_alive(process)


INTERRUPTED = """
import os, signal, sys, time
from unisegment.checking.parallel import run_parallel

def task(number):
    print(os.getpid(), flush=True)
    time.sleep(1000)

for _ in run_parallel(task, range(4), 2, timeout=2000):
    pass
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(ending):
    # In a session of its own, which gets the signal as from a terminal.
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.replace("1000", "2" if ending == signal.SIGKILL else "1000")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    workers = [int(process.stdout.readline()) for _ in range(2)]
    assert all(is_alive(worker) for worker in workers)
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)
    else:
        process.kill()
    _, errors = process.communicate(timeout=60)
    assert errors.count(b"Traceback") == (ending == signal.SIGINT)
    for _ in range(600):
        if not any(is_alive(worker) for worker in workers):
            return
        time.sleep(0.1)
    pytest.fail("processes are left")
