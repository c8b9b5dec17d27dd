# SPDX-License-Identifier: Apache-2.0
"""Every number gets its result, or is told to have none, whatever happens to the process that computes it."""

import os
import signal
import time

import pytest

from tests.warm_processes import NEVER, WarmProcess
from unisegment.checking import parallel
from unisegment.checking.parallel import Failure, _Worker, run_parallel


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
    assert dict(run_parallel(square, range(11), workers, timeout=NEVER)) == {n: n * n for n in range(11)}
    assert list(run_parallel(square, [], workers, timeout=NEVER)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_that_die_or_hang_are_told_and_replaced(workers, monkeypatch):
    begin = _Worker.begin
    # Only the one that hangs has little time: a busy machine must not make the others slow.
    monkeypatch.setattr(_Worker, "begin", lambda self, number, _: begin(self, number, 0.5 if number == 7 else NEVER))
    results = dict(run_parallel(suffer, range(11), workers, timeout=NEVER))
    failed = {number: result for number, result in results.items() if isinstance(result, Failure)}
    assert failed == {
        2: Failure("died", "it was ended by signal 9"),
        5: Failure("died", "it ended with the exit code 3"),
        7: Failure("slow", "no result after 600 seconds"),
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


def work_until_the_end(folder):
    os.setsid()  # which gets a signal as from a terminal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what they start with & ignore it
    parent, parallel._PARENT_CHECK = os.getpid(), 0.1

    def task(number):
        if number > 1:
            (folder / str(os.getpid())).touch()
            while os.getppid() == parent:
                time.sleep(0.05)

    for _ in run_parallel(task, range(4), 2, timeout=NEVER):
        # No process is being started any more: Python forgets a Ctrl-C that comes while it forks.
        (folder / "begun").touch()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(ending, tmp_path):
    process = WarmProcess(work_until_the_end, tmp_path)
    wait_until(lambda: (tmp_path / "begun").exists() and len(list(tmp_path.iterdir())) == 3)
    workers = [int(file.name) for file in tmp_path.iterdir() if file.name != "begun"]
    assert all(is_alive(worker) for worker in workers)
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)
    else:
        process.send_signal(ending)
    _, errors = process.communicate()
    assert errors.count("Traceback") == (ending == signal.SIGINT)
    wait_until(lambda: not any(is_alive(worker) for worker in workers))


def wait_until(condition):
    deadline = time.monotonic() + NEVER
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
