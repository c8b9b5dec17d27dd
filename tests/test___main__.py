# SPDX-License-Identifier: Apache-2.0
import sys

import pytest

from unisegment import cli
from unisegment.__main__ import main


def test_words_and_statuses_are_those_of_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["unisegment", "no-such-command"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "no-such-command" in capsys.readouterr().err


def test_ctrl_c_before_any_command_runs_is_one_line(monkeypatch, capsys):
    def interrupted(words, prog_name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["info"])
    assert (end.value.code, capsys.readouterr().err) == (75, "Interrupted.\n")
