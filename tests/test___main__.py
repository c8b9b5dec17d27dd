# SPDX-License-Identifier: Apache-2.0
import gc
import sys

import pytest

from unisegment import cli
from unisegment.__main__ import main


def test_the_command_runs_and_garbage_is_collected_as_ever(monkeypatch):
    found = []
    monkeypatch.setattr(cli, "app", lambda words, prog_name: found.append((words, prog_name, gc.isenabled())))
    try:
        main(["info"], "recipes/x.py")
        assert found == [(["info"], "recipes/x.py", True)]
    finally:
        gc.unfreeze()


def test_words_and_statuses_are_those_of_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unisegment", "no-such-command"])
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        gc.unfreeze()
    assert end.value.code == 2
    assert "no-such-command" in capsys.readouterr().err
