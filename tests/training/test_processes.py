# SPDX-License-Identifier: Apache-2.0
import os
import signal

import pytest
import torch
from accelerate import Accelerator

from unisegment.training.processes import StopSignals, any_process, num_threads, seed_step


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


def test_every_step_of_every_process_has_its_own_random_numbers():
    def draw(*key):
        seed_step(*key)
        return torch.rand(1).item()

    keys = [(seed, step, process) for seed in (0, 1) for step in (0, 1) for process in (0, 1)]
    assert len({draw(*key) for key in keys}) == 8
    assert draw(1, 0, 1) == draw(1, 0, 1)


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
