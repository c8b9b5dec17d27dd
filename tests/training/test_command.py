# SPDX-License-Identifier: Apache-2.0
"""Words in, exit status out; the runs themselves are tested elsewhere."""

from pathlib import Path

import pytest

from unisegment.training import NonFiniteLossError, TrainingInterruptedError, WriteError, command


def test_overrides_reach_the_run(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "fit", lambda recipe, **overrides: seen.append((recipe, overrides)))
    assert command.run_recipe("quickstart", ["optim.lr=1e-4", "run.seed=3"]) == 0
    assert seen == [("quickstart", {"optim.lr": 1e-4, "run.seed": 3})]


def test_a_dry_run_prints_and_runs_nothing(monkeypatch, capsys):
    monkeypatch.setattr(command, "fit", None)
    monkeypatch.setattr(command, "dry_run", lambda recipe, **overrides: f"{recipe} {overrides}")
    assert command.run_recipe("quickstart", ["run.seed=3"], is_dry=True) == 0
    assert capsys.readouterr().out == "quickstart {'run.seed': 3}\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (TrainingInterruptedError("stopped"), 75, "stopped"),
        (NonFiniteLossError(["a.jpg"]), 1, "error: "),
        (WriteError(Path("log.jsonl"), OSError("no room")), 1, "error: "),
    ],
)
def test_errors_become_one_line_and_a_status(monkeypatch, capsys, error, status, said):
    def fit(recipe, **overrides):
        raise error

    monkeypatch.setattr(command, "fit", fit)
    assert command.run_recipe("quickstart") == status
    assert capsys.readouterr().err.startswith(said)


def test_what_all_processes_find_is_said_once_for_each_machine(monkeypatch, capsys):
    for rank, local_rank, expected in (("0", "0", "error: "), ("3", "1", ""), ("8", "0", "process 8: error: ")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        assert command.run_recipe("no_such_recipe") == 1
        assert capsys.readouterr().err.split("There is")[0] == expected
