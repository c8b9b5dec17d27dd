# SPDX-License-Identifier: Apache-2.0
"""The command for accelerate is the one of the library."""

import runpy
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


def run(name, *arguments):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(RECIPES / name), run_name="__main__")
    return ended.value.code


def test_it_says_how_it_is_used(capsys):
    assert run("evaluate.py", "--help") == 0
    printed = capsys.readouterr().out
    assert "recipes/evaluate.py" in printed
    assert "--boundaries" in printed


def test_misuse_has_status_2(capsys):
    assert run("evaluate.py", "nowhere") == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: Invalid value: Say where the data are: evaluate CHECKPOINT DATA, or --recipe FILE. See `recipes/"
    )
