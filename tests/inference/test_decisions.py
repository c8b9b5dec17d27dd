# SPDX-License-Identifier: Apache-2.0
import os

import pytest
from accelerate import PartialState

from tests.two_processes import run_in_two_processes
from unisegment.files import WriteError
from unisegment.inference.decisions import decide_once


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
