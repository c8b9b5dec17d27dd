# SPDX-License-Identifier: Apache-2.0
import os
import signal

import pytest
from accelerate import Accelerator, PartialState

from tests.two_processes import run_in_two_processes
from unisegment.files import WriteError
from unisegment.runs.processes import StopSignals, any_process, decide_once, num_threads


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "5,2"}, 5),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({}, 6),
        # What a launcher sets when the user has not.
        ({"OMP_NUM_THREADS": "1", "ACCELERATE_DYNAMO_BACKEND": "NO"}, 6),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4"}, 3),
        ({"LOCAL_WORLD_SIZE": "24"}, 1),
    ],
)
def test_threads_are_the_cores_unless_the_user_says_otherwise(environment, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    assert num_threads(environment, num_processes=2) == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_remembered_and_the_second_one_acts(number):
    acted = []
    before = signal.signal(number, lambda *_: acted.append(1))
    try:
        with StopSignals() as stop:
            assert not stop.received
            os.kill(os.getpid(), number)
            assert stop.received
            assert not acted
            os.kill(os.getpid(), number)
            assert acted == [1]
        with StopSignals():
            pass
        os.kill(os.getpid(), number)
        assert acted == [1, 1]
    finally:
        signal.signal(number, before)


def test_a_single_process_answers_for_itself():
    accelerator = Accelerator(cpu=True)
    assert any_process(accelerator, True) is True
    assert any_process(accelerator, False) is False


class RefusedError(ValueError):
    pass


def test_a_decision_or_its_error_reaches_the_caller():
    assert decide_once(lambda: "go") == "go"

    def refuse():
        raise RefusedError("no")

    with pytest.raises(RefusedError, match="no"):
        decide_once(refuse)


def decide(rank):
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    os.environ.update(dict(zip(names, map(str, (rank, rank, 2, 2)), strict=True)))
    PartialState._reset_state()
    PartialState(cpu=True)
    found = [decide_once(lambda: rank + 7)]
    for error in (RefusedError(f"no {rank}"), WriteError(f"full {rank}")):

        def refuse(error=error):
            raise error

        try:
            decide_once(refuse)
        except (ValueError, OSError) as raised:
            found.append((type(raised).__name__, str(raised)))
    return found


def test_all_processes_have_the_decision_of_the_first(tmp_path):
    expected = [7, ("RefusedError", "no 0"), ("WriteError", "full 0")]
    assert run_in_two_processes(decide, tmp_path) == [expected, expected]
