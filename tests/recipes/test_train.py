# SPDX-License-Identifier: Apache-2.0
"""The command itself."""

import subprocess
import sys
from pathlib import Path

from tests.warm_processes import run_script, run_warm

SCRIPT = Path(__file__).parents[2] / "recipes" / "train.py"


def test_without_arguments_it_says_how_it_is_used():
    status, output, _ = run_warm(run_script, SCRIPT)
    assert status == 2
    assert "usage: accelerate launch recipes/train.py RECIPE [key.path=value ...]" in output


def test_a_wrong_key_is_one_line_not_a_traceback():
    command = [sys.executable, SCRIPT, "quickstart", "optim.learning_rate=1"]  # as a user starts it
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "there is no key 'optim.learning_rate'" in result.stderr
    assert "Traceback" not in result.stderr
