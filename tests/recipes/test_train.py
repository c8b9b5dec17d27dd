# SPDX-License-Identifier: Apache-2.0
"""The command itself."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def train(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "recipes" / "train.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_without_arguments_it_says_how_it_is_used():
    result = train()
    assert result.returncode == 2
    assert "usage: accelerate launch recipes/train.py RECIPE [key.path=value ...]" in result.stdout


def test_a_wrong_key_is_one_line_not_a_traceback():
    result = train("recipes/quickstart.yaml", "optim.learning_rate=1")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "there is no key 'optim.learning_rate'" in result.stderr
    assert "Traceback" not in result.stderr
