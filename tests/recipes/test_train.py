# SPDX-License-Identifier: Apache-2.0
"""The command itself."""

import subprocess
import sys
from pathlib import Path

from tests.warm_processes import run_script, run_warm

SCRIPT = Path(__file__).parents[2] / "recipes" / "train.py"


def test_without_arguments_it_says_how_it_is_used():
    status, _, error = run_warm(run_script, SCRIPT)
    assert status == 2
    assert error == "error: Missing argument 'DATA|RECIPE'. See `recipes/train.py train --help`.\n"


def test_a_wrong_key_is_one_line_not_a_traceback():
    command = [sys.executable, SCRIPT, "quickstart", "optim.wieght_decay=1"]  # as a user starts it
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        "error: optim.wieght_decay=1: there is no key 'optim.wieght_decay'. Did you mean 'optim.weight_decay'?\n"
    )
